"""Covering a row of positions with boards: the searches behind :mod:`edge_partition.plan_split`."""
