"""Exact searches that :mod:`~edge_partition.planning.plan_split` assigns operators to boards by."""
