"""Runs inside a sandbox, on the user's own Python: loads one function and runs calls of it, one after the other.

Standard library only, Python 3.10 and up.  It knows its channel and nothing else: no server, no token, no network.
"""
