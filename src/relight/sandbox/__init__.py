"""One isolated process tree.  This room knows nothing of apps, calls or the server.

    SandboxSpec ─ plan ▶ Plan (pure, printable) ─ launcher ▶ clone ─ init ▶ operations ─ exec ▶ the worker

Standard library only, Python 3.10 and up.
"""
