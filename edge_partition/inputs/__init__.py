"""Conversion of files and arrays to input tensors."""
