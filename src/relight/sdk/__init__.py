"""What the user imports: apps, functions and classes, and the way to a server.

Standard library only, Python 3.10 and up; nothing of the server is imported here.
"""
