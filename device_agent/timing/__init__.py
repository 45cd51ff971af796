"""What a board measures when asked."""
