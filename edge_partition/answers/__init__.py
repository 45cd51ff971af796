"""Conversion of output tensors to labels and boxes."""
