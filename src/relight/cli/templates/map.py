"""Many calls of one function at once.

relight run app.py                     # counts the primes below 200,000, twenty parts at a time
relight run app.py --limit 1000000
"""

import relight

app = relight.App("map")

PARTS = 20


@app.function()
def primes_between(first: int, last: int) -> int:
    """How many primes there are from `first` on, before `last`."""
    return sum(all(n % divisor for divisor in range(2, int(n**0.5) + 1)) for n in range(max(first, 2), last))


@app.local_entrypoint()
def main(limit: int = 200_000) -> None:
    size = -(-limit // PARTS)
    starts = range(0, limit, size)
    counts = primes_between.map(starts, [min(start + size, limit) for start in starts])
    print(f"{sum(counts)} primes below {limit}")
