"""The TFLite runtime."""
