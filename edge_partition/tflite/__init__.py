"""The flatbuffer: read, changed, cut into slices."""
