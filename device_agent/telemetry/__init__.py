"""What a board tells of itself."""
