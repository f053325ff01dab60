"""Files that `relight init` writes: each is an app that `relight run` runs as it is."""
