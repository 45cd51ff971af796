"""Facts about a model's inputs and outputs beyond dtype and shape."""
