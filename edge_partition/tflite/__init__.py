"""``.tflite`` files: read, changed and cut into slices."""
