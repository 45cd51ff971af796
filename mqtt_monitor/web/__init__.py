"""The web front end: the page, its server, and the checks of who may see the page."""
