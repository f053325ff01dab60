"""Other people's code, unchanged, with its licence beside it, so that a worker needs nothing but an interpreter.

cloudpickle 3.1.2 (BSD-3-Clause), without `cloudpickle_fast.py`, which only old pickles need.
"""
