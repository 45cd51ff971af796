"""The client of a deployment: sends requests, waits for their answers, and reports times."""
