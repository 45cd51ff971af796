"""A plan under a stream of requests."""
