"""How programs start and end."""
