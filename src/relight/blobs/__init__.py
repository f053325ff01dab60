"""Bytes by digest: what is too large, or too often shared, to travel inside a message."""
