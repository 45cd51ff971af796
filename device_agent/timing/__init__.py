"""Time slices of a model, and messages to the broker, on this board. A host asks for the times."""
