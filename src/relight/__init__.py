"""relight: decorate a function, and it becomes a remote call."""
