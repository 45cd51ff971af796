"""Files and arrays to input tensors."""
