"""The web front end: the page, the server of the page, and the server's access checks."""
