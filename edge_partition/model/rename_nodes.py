"""Name the nodes of a graph after the layers to which the nodes belong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edge_partition.model.escape_names import restore_names
from edge_partition.model.explain_conversion import enclosing_layer, strip_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: Beginning of the name of a node that belonged to a function, whose calls were inlined.
_CALLS = re.compile(r"^((Stateful)?PartitionedCall(_\d+)?/)+(?=.)")


def rename_nodes(graph: Any, renamed: Mapping[str, str], layers: Collection[str]) -> dict[str, str]:
    """Rename the nodes of a ``GraphDef``.

    Args:
        graph: A ``GraphDef``, which is changed in place.
        renamed: New names of some nodes, by their old names. In the names of all other nodes, the
            function removes the numbers that TensorFlow added to the names of layers.
        layers: Names of the layers, as they appear in the names of graph nodes.

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
    """Return ``names``, with a number added to each name that repeats or is in ``taken``."""
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
    """Return the path of a node's layer with unescaped names; ``""`` if the node has no layer."""
    return restore_names(enclosing_layer(_CALLS.sub("", node_name), layers))
