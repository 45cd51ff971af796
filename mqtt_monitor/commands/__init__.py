"""The commands of ``mqtt-monitor``, one a file."""
