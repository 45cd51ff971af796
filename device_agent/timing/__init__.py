"""Measure, for a host, how long slices of a model and messages take on this board."""
