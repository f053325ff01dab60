"""Traffic → advice: traces replayed through the scheduler's own decisions, under a clock that costs nothing."""
