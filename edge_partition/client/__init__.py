"""Requests to a deployment."""
