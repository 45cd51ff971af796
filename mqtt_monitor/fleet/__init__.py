"""Computes the fleet's state from messages: boards, deployments, requests, events and alerts."""
