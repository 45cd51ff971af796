"""The commands of ``edge-partition``, one a file."""
