"""Simulation of a plan under a stream of requests."""
