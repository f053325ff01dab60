"""All that must outlive a process, and the only SQL.

Writes are queued at once and in order, and committed in groups; each returns a future that is done when it is on disk.
"""
