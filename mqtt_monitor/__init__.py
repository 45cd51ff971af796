"""The monitor, which reads the topics of a fleet and shows the fleet's state."""
