"""Requests to boards: files, commands, deployments, status."""
