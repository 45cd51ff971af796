"""Facts about a model's inputs and outputs, such as pixel format, sample rate and class names."""
