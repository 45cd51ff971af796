"""The searches that :mod:`~edge_partition.planning.plan_split` uses to find the best plan.

:mod:`.problem` defines the terms: node, step, route, kind, replica set, period and cost.
"""
