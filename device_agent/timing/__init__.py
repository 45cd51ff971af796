"""Measurements on a board that a host requests."""
