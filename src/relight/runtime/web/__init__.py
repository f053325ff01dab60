"""A worker that serves the web: requests that the gateway has parsed, answered by whatever the user wrote."""
