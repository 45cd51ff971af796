"""Brokers: configuring them, and running one on this machine."""
