"""Brokers that run as child processes of this program."""
