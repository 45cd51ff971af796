"""Requests to the agents on boards: send files, deploy bundles, read the status."""
