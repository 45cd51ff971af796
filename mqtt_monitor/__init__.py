"""Watching a fleet: read its topics, show its state. Publishes nothing."""
