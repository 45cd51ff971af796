"""Names of a graph's nodes, made from the names of the layers that they belong to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edge_partition.model.escape_names import restore_names
from edge_partition.model.explain_conversion import enclosing_layer, strip_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: Start of the name of a node that came from an inlined function.
_CALLS = re.compile(r"^((Stateful)?PartitionedCall(_\d+)?/)+(?=.)")


def rename_nodes(graph: Any, renamed: Mapping[str, str], layers: Collection[str]) -> dict[str, str]:
    """Rename the nodes of a ``GraphDef`` in place.

    Args:
        graph: A ``GraphDef``.
        renamed: New names of some nodes, by their present names. The other nodes get the exact
            names of their layers.
        layers: Names of the layers, as parts of node names.

    Returns:
        The new names of all nodes, by the old names.
    """
    names: dict[str, str] = {}
    taken = set(renamed.values())
    for node in graph.node:
        if node.name not in renamed:
            own = _CALLS.sub("", node.name)
            (name,) = make_unique([strip_numbers(own, layers)], taken=taken)
            taken.add(name)
            names[node.name] = name
    names |= renamed
    for node in graph.node:
        node.name = names[node.name]
        node.attr.pop("_class", None)
        node.ClearField("experimental_debug_info")  # names within inlined functions
        for position, source in enumerate(node.input):
            control, name, port = re.fullmatch(r"(\^?)([^:]+)(:\d+)?", source).groups("")  # type: ignore[union-attr]
            node.input[position] = f"{control}{names[name]}{port}"
    return names


def make_unique(names: Iterable[str], *, taken: Iterable[str] = ()) -> list[str]:
    """Return the names, with a number after names that repeat or are in ``taken``."""
    used = set(taken)
    unique = []
    for name in names:
        candidate, number = name, 0
        while candidate in used:
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate)
        unique.append(candidate)
    return unique


def layer_of_node(node_name: str, layers: Collection[str]) -> str:
    """Return the layer of a node with its unescaped name; ``""`` for a node outside all layers."""
    return restore_names(enclosing_layer(_CALLS.sub("", node_name), layers))
