"""What two machines say to each other.

Ids, the manifest, calls, workers, values, errors, and the bytes they travel as.  Standard library, no I/O: every
other room stands on this one, and none of it knows who is speaking.
"""

PROTOCOL = 3
"""The version both ends name when they meet.  One line of history for each step:

1  the first: orders and reports are plural, streams have credit
2  generators: Reports.items, Orders.grant; workers with parameters
3  calls for workers that are being started: Orders.ask_back
"""
