"""Making a fork unlike its siblings, and as wide as it may be.

By then `os.fork` has seen to `random` (Python seeds it anew), OpenSSL and `tempfile` (they notice).  Here the rest is
drawn anew: numpy's global generator, those that a module made without a seed, torch's, and what `uuid1` takes for this
process.  What cannot be known is left: a module's own `random.Random` may have been seeded on purpose.

Nothing is imported for it, and each step takes microseconds: a caller waits.
"""

from __future__ import annotations

import os
import sys

from relight.runtime.cpus import count_cpus, show_cpus
from relight.runtime.freezing import Frozen

_MT19937_BYTES = 624 * 4


def thaw(frozen: Frozen, cpu: float | None) -> None:
    """In the child, before user code."""
    show_cpus(cpu)
    if frozen.counts:
        cpus = count_cpus(cpu)
        for count in frozen.counts:
            if count.now != cpus:
                count.set(cpus)
    for generator in frozen.generators:
        generator.state = type(generator)().state
    _reseed_numpy()
    _reseed_torch()
    _renew_uuid()


def _reseed_numpy() -> None:
    """By its whole state: half as long as `seed`, which makes one from a few words."""
    mtrand = sys.modules.get("numpy.random.mtrand")
    if mtrand is None or not hasattr(mtrand, "set_state"):
        return
    try:
        mtrand.set_state(("MT19937", sys.modules["numpy"].frombuffer(os.urandom(_MT19937_BYTES), "uint32"), 624))
    except ValueError:  # it draws from another one, by numpy.random.set_bit_generator
        generator = mtrand.get_bit_generator()
        generator.state = type(generator)().state


def _reseed_torch() -> None:
    """A GPU's generators are seeded when they are made, but with the seed that waits for them where one was set."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "default_generator"):
        return
    torch.default_generator.manual_seed(_entropy(63))
    waiting = getattr(sys.modules.get("torch.cuda"), "_lazy_seed_tracker", None)
    if waiting is not None and any(waiting.get_calls()):
        torch.cuda.manual_seed_all(_entropy(63))


def _renew_uuid() -> None:
    """`uuid1` is unique by its node, the machine's, and by what the C library remembers, the template's."""
    uuid = sys.modules.get("uuid")
    if uuid is None:
        return
    names = vars(uuid)
    names["_node"] = _entropy(48) | 1 << 40  # the bit that says: not a network card's
    names["_generate_time_safe"] = None


def _entropy(bits: int) -> int:
    return int.from_bytes(os.urandom(8), "little") >> 64 - bits
