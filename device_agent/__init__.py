"""The agent on a board: receives, checks, loads and runs stages, and sends activations on."""
