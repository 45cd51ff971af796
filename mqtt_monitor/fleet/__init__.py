"""The fleet's state: boards, deployments, requests, events and alerts."""
