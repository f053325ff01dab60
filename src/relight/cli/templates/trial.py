"""What `relight doctor` runs on a server of its own, to see how workers are started on this machine."""

import relight

app = relight.App("doctor")


@app.function(template=False)
def fetched() -> int:
    """Be run by a worker whose code has to be brought first."""
    return 1


@app.function(template=False)
def alone() -> int:
    """Be run by a worker that imports for itself."""
    return 1


@app.function()
def first() -> int:
    """Be run by a fork of a template, which is made for it."""
    return 1


@app.function()
def second() -> int:
    """Be run by a fork of the same template, which is there by now."""
    return 1


@app.function()
def third() -> int:
    """Be run by one more."""
    return 1
