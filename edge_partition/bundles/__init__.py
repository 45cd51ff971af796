"""Bundles, the folders that ``edge-partition split`` writes: write, read, run and verify them."""
