"""The web front end: the server, its access checks and the page."""
