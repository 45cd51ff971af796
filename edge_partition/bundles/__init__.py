"""The files that split writes, and what runs and compares them."""
