"""Slower boards on this machine."""
