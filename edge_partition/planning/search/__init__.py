"""The searches that :mod:`~edge_partition.planning.plan_split` uses to find the best plan.

The docstring of :mod:`.problem` defines the terms of all searches: node, step, route, kind, replica
set, period and cost.
"""
