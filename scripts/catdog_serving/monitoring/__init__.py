"""Read a running server's status and metrics."""
