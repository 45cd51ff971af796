"""Start and end of programs."""
