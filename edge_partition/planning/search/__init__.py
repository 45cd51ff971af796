"""Exact searches for the plans of :mod:`~edge_partition.planning.plan_split`, with bounds."""
