"""Output tensors to labels and boxes."""
