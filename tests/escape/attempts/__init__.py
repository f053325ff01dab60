"""Attempts to get out of a sandbox, as code that runs in it: each does what it says, or raises what it was refused with.

Standard library alone, and nothing of relight: the same code is run in workers, in templates as they import it, and as
a plain process, where it shows that an attempt would work if there were no wall.  Each runs in a child of its own, since
some end it.  What is outside, and how it may be found, is in a module beside this package, `targets`.
"""

from . import doors, machine, rights  # each registers its own
from .means import ATTEMPTS, capabilities, outcome, outcomes

__all__ = ["ATTEMPTS", "capabilities", "doors", "machine", "outcome", "outcomes", "rights"]
