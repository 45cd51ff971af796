"""What is known of a model's inputs and outputs."""
