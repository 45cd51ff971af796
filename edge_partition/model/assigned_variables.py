"""Variables that a model assigns during a request: a recurrent state, a counter, a random seed.

Most of these variables, such as a seed that only training reads, do not affect the outputs. These
variables and their assignments are removed. The other variables stay in the ``.tflite`` file. The
TFLite interpreter keeps their values from one request to the next, as Keras's ``predict`` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from edge_partition.tflite.gather_variables import gather_variables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True)
class AssignedVariable:
    """A variable that a frozen model assigns.

    Attributes:
        node: Name of the placeholder in the graph that stands for the variable's handle.
        value: Initial value.
    """

    node: str
    value: np.ndarray = field(repr=False)


def find_assigned_variables(function: Any) -> tuple[AssignedVariable, ...]:
    """Return the variables that a ``ConcreteFunction`` assigns, or may assign."""
    from tensorflow.python.framework import auto_control_deps_utils  # noqa: PLC0415

    read_only = set(
        auto_control_deps_utils.get_read_only_resource_input_indices_graph(function.graph)
    )
    assigned = {
        id(tensor)
        for index, tensor in enumerate(function.graph.inputs)
        if tensor.dtype.name == "resource" and index not in read_only
    }
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    return tuple(
        AssignedVariable(inner.op.name, variables[id(outer)].numpy())
        for outer, inner in function.graph.captures
        if id(inner) in assigned and id(outer) in variables
    )


def keep_needed_nodes(
    graph: Any, outputs: Iterable[str], inputs: Collection[str], assigned: Collection[str]
) -> frozenset[str]:
    """Remove the nodes of a graph that no output depends on.

    An output that depends on a variable also depends on the nodes that assign the variable.

    Args:
        graph: A ``GraphDef``, which is changed in place.
        outputs: Names of the nodes that compute the model's outputs.
        inputs: Names of the model's inputs; all inputs are kept.
        assigned: Names of the placeholders of assigned variables.

    Returns:
        Names of the placeholders of those variables that an output depends on.
    """
    sources = {
        node.name: [_node_of(x) for x in node.input if not x.startswith("^")] for node in graph.node
    }
    users = _users_of_handles(graph, sources, assigned)
    needed: set[str] = set(inputs)
    waiting = [*outputs]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        waiting += sources[name]
        waiting += users.get(name, ())
    kept = [node for node in graph.node if node.name in needed]
    for node in kept:
        wanted = [x for x in node.input if not x.startswith("^") or _node_of(x) in needed]
        del node.input[:]
        node.input.extend(wanted)
    del graph.node[:]
    graph.node.extend(kept)
    return frozenset(needed & set(assigned))


def _users_of_handles(
    graph: Any, sources: Mapping[str, Sequence[str]], assigned: Collection[str]
) -> dict[str, list[str]]:
    """Return the nodes that use each variable. Key: name of the variable's placeholder."""
    users: dict[str, list[str]] = {name: [] for name in assigned}
    aliases = {name: name for name in assigned}
    found = True
    while found:  # a node may come before its inputs, so one pass is not enough
        found = False
        for node in graph.node:
            if node.op == "Identity" and node.name not in aliases:
                source = aliases.get(sources[node.name][0])
                if source is not None:
                    aliases[node.name] = source
                    found = True
    for node in graph.node:
        for source in sources[node.name]:
            if source in aliases:
                users[aliases[source]].append(node.name)
    return users


def _node_of(source: str) -> str:
    return re.sub(r":\d+$", "", source.removeprefix("^"))


def save_function(
    graph: bytes,
    variables: Sequence[AssignedVariable],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    folder: Path,
) -> None:
    """Write a SavedModel whose only function computes ``graph`` and assigns ``variables``.

    The inputs and outputs of this function have the names that :func:`port_name` returns.

    Args:
        graph: A serialized ``GraphDef``.
        variables: Assigned variables of the graph.
        inputs: TensorFlow's ``TensorSpec`` of each input of the graph.
        outputs: TensorFlow's ``TensorSpec`` of each output of the graph.
        folder: Folder into which the SavedModel is written.
    """
    import tensorflow as tf  # noqa: PLC0415

    module = tf.Module()
    # The TFLite runtime identifies variables by their names. A name contains the layer's name.
    module.held = [tf.Variable(x.value, name=_variable_name(x.node)) for x in variables]
    definition = tf.compat.v1.GraphDef.FromString(graph)

    def call(*tensors: Any) -> dict[str, Any]:
        current = tf.compat.v1.get_default_graph()
        given = {spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)}
        for variable, held in zip(variables, module.held, strict=True):
            current.watch_variable(held)
            given[variable.node] = current.capture(held.handle)
        found = tf.graph_util.import_graph_def(
            definition,
            input_map={f"{name}:0": tensor for name, tensor in given.items()},
            return_elements=[f"{spec.name}:0" for spec in outputs],
            name="",
        )
        return {port_name("output", index): tensor for index, tensor in enumerate(found)}

    signature = [
        tf.TensorSpec(spec.shape, spec.dtype, port_name("input", index))
        for index, spec in enumerate(inputs)
    ]
    module.call = tf.function(call, input_signature=signature, autograph=False)
    tf.saved_model.save(module, str(folder), signatures=module.call)


def _variable_name(node: str) -> str:
    return node.removesuffix("/resource").removesuffix("/ReadVariableOp")


def port_name(kind: str, index: int) -> str:
    """Return the name of an input or output of the function that :func:`save_function` writes.

    Args:
        kind: ``input`` or ``output``.
        index: Position among the inputs or outputs, counted from 0.
    """
    return f"edge_partition_{kind}_{index:04}"


def name_ports(content: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Give the inputs and outputs of a ``.tflite`` file the names and the order of the model.

    The signature is removed. Operators that use the same variable are moved close together.

    Args:
        content: The ``.tflite`` file, converted from the SavedModel of :func:`save_function`.
        inputs: Names of the model's inputs, in the model's order.
        outputs: Names of the model's outputs, in the model's order.

    Returns:
        The changed ``.tflite`` file.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    main = model.subgraphs[0]
    (signature,) = model.signatureDefs
    for kind, names, ports in (
        ("input", inputs, signature.inputs),
        ("output", outputs, signature.outputs),
    ):
        places = {port.name.decode(): port.tensorIndex for port in ports}
        order = [places[port_name(kind, index)] for index in range(len(names))]
        for place, name in zip(order, names, strict=True):
            main.tensors[place].name = name.encode()
        if kind == "input":
            main.inputs = order
        else:
            main.outputs = order
    model.signatureDefs = None
    gather_variables(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
