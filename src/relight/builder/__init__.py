"""From an image as the user wrote it to what a sandbox mounts."""
