"""The commands of ``mqtt-monitor``, one per file."""
