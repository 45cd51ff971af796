"""The commands of ``edge-partition``, one per file."""
