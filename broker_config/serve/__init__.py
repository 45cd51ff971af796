"""Brokers that a program starts for itself."""
