"""Before the conversion, refuse models that TFLite cannot convert or that boards cannot run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_partition.model.conversion_log import ConversionError
from edge_partition.model.escape_names import restore_names
from edge_partition.model.explain_conversion import enclosing_layer

if TYPE_CHECKING:
    from collections.abc import Collection

    from edge_partition.model.frozen_model import FrozenModel

_CASES = ("Case", "StatelessCase")


def check_dtypes(
    model: str, graph: Any, layers: Collection[str], variables: Collection[str]
) -> None:
    """Refuse strings and lookup tables, for which the runtimes of boards have no operators.

    Args:
        model: The model's name.
        graph: A ``tf.Graph``.
        layers: Names of the layers, as they appear in the names of graph nodes.
        variables: Names of the placeholders of assigned variables. These placeholders may have the
            dtype ``resource``.

    Raises:
        ConversionError: A layer uses strings or a lookup table.
    """
    found: dict[str, str] = {}
    for node in graph.get_operations():
        if node.type == "Const" or node.name in variables:
            continue
        if not {x.dtype.name for x in node.outputs} & {"string", "resource"}:
            continue
        readers = [reader for output in node.outputs for reader in output.consumers()]
        for holder in readers if node.type == "Placeholder" else [node]:
            if layer := enclosing_layer(holder.name, layers):
                found[restore_names(layer)] = holder.type
    if not found:
        return
    raise ConversionError(
        model,
        f"layer {', '.join(sorted(found))} uses strings or a lookup table, for which TFLite has no "
        "builtin operators. Remove the layer, and give the model numbers instead of text.",
        operators=tuple(sorted(set(found.values()))),
        layers=tuple(sorted(found)),
    )


def check_branches(model: str, graph: Any, layers: Collection[str]) -> None:
    """Refuse ``Case``, the operator of ``tf.switch_case``.

    TFLite lacks this operator, and TensorFlow cannot freeze a graph with this operator.

    Args:
        model: The model's name.
        graph: A ``GraphDef`` with its library of functions.
        layers: Names of the layers, as they appear in the names of graph nodes.

    Raises:
        ConversionError: A layer has a ``tf.switch_case``.
    """
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    found = [node for node in nodes if node.op in _CASES]
    if found:
        layers = {restore_names(enclosing_layer(node.name, layers)) for node in found}
        raise ConversionError(
            model,
            f"TFLite has no operator for Case (tf.switch_case) in layer "
            f"{', '.join(sorted(layers - {''})) or found[0].name}. Use tf.cond or tf.where.",
            operators=("Case",),
            layers=tuple(sorted(layers - {""})),
        )


def check_output_shape(name: str, spec: Any, frozen: FrozenModel) -> None:
    """Refuse an output whose shape depends on the values of the input.

    Args:
        name: The output's name, for the error message.
        spec: TensorFlow's ``TensorSpec`` of the output.
        frozen: The frozen model with this output.

    Raises:
        ConversionError: The shape of the output is not fixed.
    """
    if spec.shape.is_fully_defined():
        return
    nodes = {node.name: node for node in frozen.outline.node}
    node = nodes[spec.name]
    while node.op == "Identity":
        node = nodes[node.input[0].partition(":")[0]]
    raise ConversionError(
        frozen.name,
        f"the shape of output {name!r} depends on the input's values (operator {node.op} returns "
        f"shape {spec.shape}), but boards need fixed shapes. End the model before this operator.",
        operators=(node.op,),
        layers=(name,),
    )
