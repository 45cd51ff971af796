"""Freeze a Keras model or a TensorFlow function: make a graph with constants instead of variables.

:mod:`~edge_partition.model.convert_tflite` converts this graph and does not need the model.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras
from edge_partition.model.assigned_variables import (
    find_assigned_variables,
    keep_needed_nodes,
)
from edge_partition.model.check_convertible import (
    check_branches,
    check_dtypes,
    check_output_shape,
)
from edge_partition.model.conversion_log import ConversionError, explained_errors
from edge_partition.model.escape_names import (
    escape_layer_name,
    escape_name,
    escaped_layers,
)
from edge_partition.model.frozen_model import FrozenModel
from edge_partition.model.plain_operations import plain_operations
from edge_partition.model.rename_nodes import layer_of_node, make_unique, rename_nodes
from edge_partition.model.replace_operators import ReplacingError, replace_operators
from edge_partition.model.unroll_layers import unrolled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

#: Largest size of a constant that is not a weight, in bytes. Such a constant may define a shape.
_SHAPE_BYTES = 1024
#: Operators whose replacements are inaccurate in int8, because they compute logarithms or quotients
#: of squares. The measured errors are 0.14 to 0.35 of the largest value.
_COARSE_IN_INT8 = frozenset({"Acosh", "Asinh", "Atanh", "Erfc"})
#: Largest size of a protocol buffer, such as a ``GraphDef``, in bytes.
_MAX_GRAPH_BYTES = 2**31 - 1


def freeze_model(
    model: Any, *, unroll: bool = False, log_path: str | Path | None = None
) -> FrozenModel:
    """Return a Keras model as a frozen graph with a batch of 1.

    The conversion of the frozen graph takes about seven times the memory of the weights. To save
    memory, the caller can release ``model`` before the conversion.

    Args:
        model: A Keras 3 or Keras 2 (``tf_keras``) model. All dimensions but the batch must be
            fixed.
        unroll: Whether to unroll short recurrent loops, as int8 requires.
        log_path: File for TensorFlow's output. With None, a temporary file is used, which is
            deleted unless an error occurs.

    Raises:
        ConversionError: A shape is not fixed, or TFLite has no operator for an operation in the
            model.
    """
    for tensor in model.inputs:
        if None in _dimensions(tensor.shape)[1:]:
            raise ConversionError(
                model.name,
                f"input {tensor.name!r} has shape {tuple(_dimensions(tensor.shape))}; all "
                "dimensions but the batch must be fixed. Give --input-shape.",
            )
    with contextlib.ExitStack() as stack:
        name = str(model.name)
        output_names = _output_names(model)
        input_names = [str(tensor.name) for tensor in model.inputs]
        layers = stack.enter_context(escaped_layers(model))
        stack.enter_context(explained_errors(name, layers, log_path))
        if unroll:
            stack.enter_context(unrolled(model))
        frozen = _freeze(
            _Traced(
                name=name,
                function=_trace(model),
                layers=layers,
                input_names=input_names,
                output_names=output_names,
            )
        )
        for spec, tensor, output in zip(model.outputs, frozen.outputs, output_names, strict=True):
            if None in _dimensions(spec.shape):
                check_output_shape(output, tensor, frozen)
        return frozen


def freeze_function(
    function: Callable[..., Any],
    *,
    name: str,
    inputs: Sequence[tuple[str, Any]],
    output_names: Sequence[str],
    layers: Collection[str] = (),
    log_path: str | Path | None = None,
) -> FrozenModel:
    """Return a TensorFlow function, such as a signature of a SavedModel, as a frozen graph.

    Args:
        function: A ``ConcreteFunction``, or any function that TensorFlow can trace. It takes the
            input tensors by keyword. It returns either a dictionary with the keys ``output_names``,
            or nested lists and tuples of tensors in the order of ``output_names``.
        name: The model's name.
        inputs: Keyword and ``TensorSpec`` of each input. The shape must be fixed.
        output_names: Names of the outputs, in order.
        layers: Names of the layers, as they appear in the names of graph nodes.
        log_path: File for TensorFlow's output, as for :func:`freeze_model`.

    Raises:
        ConversionError: A shape is not fixed, or TFLite has no operator for an operation in the
            function.
    """
    import tensorflow as tf  # noqa: PLC0415

    for key, spec in inputs:
        if None in _dimensions(spec.shape):
            raise ConversionError(
                name,
                f"input {key!r} has shape {spec.shape}; all dimensions must be fixed. Give "
                "--input-shape.",
            )
    keys = [key for key, _ in inputs]

    def call(*tensors: Any) -> list[Any]:
        found = function(**dict(zip(keys, tensors, strict=True)))
        if isinstance(found, dict) and set(output_names) <= set(found):
            return [found[key] for key in output_names]
        return list(tf.nest.flatten(found))

    escaped = frozenset(map(escape_layer_name, layers))
    with explained_errors(name, escaped, log_path):
        specs = [tf.TensorSpec(spec.shape, spec.dtype) for _, spec in inputs]
        traced = tf.function(call, autograph=False).get_concrete_function(*specs)
        frozen = _freeze(_Traced(name, traced, escaped, keys, list(output_names)))
        for output, tensor in zip(output_names, frozen.outputs, strict=True):
            check_output_shape(output, tensor, frozen)
        return frozen


@dataclass(frozen=True)
class _Traced:
    """A traced function from a list of input tensors to a list of output tensors.

    Attributes:
        name: The model's name.
        function: A ``ConcreteFunction``.
        layers: Names of the layers, as they appear in the names of graph nodes.
        input_names: Names of the inputs, in order.
        output_names: Names of the outputs, in order.
    """

    name: str
    function: Any
    layers: frozenset[str]
    input_names: Sequence[str]
    output_names: Sequence[str]


def _trace(model: Any) -> Any:
    """Return a ``ConcreteFunction`` from the model's input tensors to a list of output tensors."""
    import tensorflow as tf  # noqa: PLC0415

    flatten, pack = tf.nest.flatten, tf.nest.pack_sequence_as
    if type(model).__module__.partition(".")[0] != "tf_keras":
        import keras  # noqa: PLC0415

        if isinstance(model, keras.layers.Layer):  # Keras 3 and TensorFlow flatten differently
            flatten, pack = keras.tree.flatten, keras.tree.pack_sequence_as
    structure = _inputs_structure(model)

    def call(*tensors: Any) -> list[Any]:
        return list(flatten(model(pack(structure, list(tensors)), training=False)))

    specs = [
        tf.TensorSpec((1, *_dimensions(tensor.shape)[1:]), tensor.dtype) for tensor in model.inputs
    ]
    with plain_operations():
        return tf.function(call, autograph=False).get_concrete_function(*specs)


def _inputs_structure(model: Any) -> Any:
    """Return the inputs of ``model`` as a tensor, or as tensors in lists and dictionaries."""
    for holder in (model, getattr(model, "_functional", None)):
        for attribute in ("_inputs_struct", "_nested_inputs"):
            structure = getattr(holder, attribute, None)
            if structure is not None:
                return structure
    return model.inputs[0] if len(model.inputs) == 1 else list(model.inputs)


def _dimensions(shape: Any) -> list[int | None]:
    """Return the dimensions of a Keras or TensorFlow shape; ``[None]`` if the rank is unknown."""
    if getattr(shape, "rank", 0) is None:
        return [None]
    return [None if size is None else int(size) for size in shape]


def _output_names(model: Any) -> list[str]:
    """Return the names of a model's outputs.

    If the model returns a dictionary, the names are the keys. Otherwise an output has the name of
    the layer that computes the output.
    """
    structure = getattr(model, "_outputs_struct", None)  # Keras 2 has none
    if isinstance(structure, dict) and len(structure) == len(model.outputs):
        return sorted(map(str, structure))  # the order in which Keras flattens a dictionary
    names = getattr(model, "output_names", None) or [model.layers[-1].name]
    return [str(name) for name in names]


def _freeze(traced: _Traced) -> FrozenModel:
    """Return the traced function as a graph with constants instead of variables.

    Constants are needed because TFLite runtimes differ in their operators for variables.
    """
    import tensorflow as tf  # noqa: PLC0415

    function = traced.function
    check_branches(traced.name, function.graph.as_graph_def(), traced.layers)
    variables = find_assigned_variables(function)
    graph = _replace_variables(function, {variable.node for variable in variables})
    input_nodes = [x.op.name for x in function.inputs[: len(traced.input_names)]]
    output_nodes = [tensor.name for tensor in function.outputs]
    if variables:
        kept = keep_needed_nodes(
            graph,
            [name.partition(":")[0] for name in output_nodes],
            input_nodes,
            {variable.node for variable in variables},
        )
        variables = tuple(variable for variable in variables if variable.node in kept)
    replaced = _replace_operators(traced, graph, output_nodes)
    outline = _leave_out_weights(graph)
    with tf.Graph().as_default() as inferred:
        tf.graph_util.import_graph_def(outline, name="")
    outputs = [inferred.get_tensor_by_name(name) for name in output_nodes]
    for tensor, seen in zip(outputs, function.outputs, strict=True):
        # The imported graph lacks the shapes that depend on a variable's shape.
        tensor.set_shape(seen.shape)
    assigned = {variable.node for variable in variables}
    check_dtypes(traced.name, inferred, traced.layers, assigned)
    input_names = [escape_name(x) for x in make_unique(traced.input_names)]
    output_names = make_unique(map(escape_name, traced.output_names), taken=input_names)
    names = rename_nodes(
        graph,
        dict(zip(input_nodes, input_names, strict=True))
        | {tensor.op.name: x for tensor, x in zip(outputs, output_names, strict=True)},
        traced.layers,
    )
    return FrozenModel(
        name=traced.name,
        layers=traced.layers,
        inputs=tuple(
            tf.TensorSpec(tensor.shape, tensor.dtype, name)
            # In function.inputs, captured tensors come after the model's inputs.
            for tensor, name in zip(function.inputs, input_names, strict=False)
        ),
        outputs=tuple(
            tf.TensorSpec(tensor.shape, tensor.dtype, name)
            for tensor, name in zip(outputs, output_names, strict=True)
        ),
        content=_serialize(traced.name, graph),
        coarse=replaced,
        outline=_leave_out_weights(graph),
        variables=tuple(replace(x, node=names[x.node]) for x in variables),
    )


def _replace_variables(function: Any, kept: Collection[str]) -> Any:
    """Return a function's ``GraphDef`` with inlined calls, and constants instead of variables.

    Args:
        function: A ``ConcreteFunction``.
        kept: Names of the placeholders of the variables that remain variables.
    """
    from tensorflow.python.framework import convert_to_constants  # noqa: PLC0415

    # The public function convert_variables_to_constants_v2 also turns the graph into a function,
    # for which TensorFlow keeps about seven copies of each constant.
    values = convert_to_constants._FunctionConverterDataInEager(  # noqa: SLF001
        func=function,
        lower_control_flow=False,  # TFLite has WHILE and IF, but no Switch and Merge
        aggressive_inlining=False,
        variable_names_denylist=kept,
    )
    graph, _ = convert_to_constants._replace_variables_by_constants(values)  # noqa: SLF001
    return graph


def _replace_operators(
    traced: _Traced, graph: Any, outputs: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """Replace operators that TFLite lacks.

    Returns:
        Operator and layer of each replacement that is too inaccurate in int8.
    """
    try:
        names = {name.partition(":")[0] for name in outputs}
        replaced = replace_operators(graph, _leave_out_weights, names)
    except ReplacingError as error:
        layer = layer_of_node(error.node, traced.layers)
        raise ConversionError(
            traced.name,
            f"layer {layer or error.node} {error.reason}",
            operators=(error.operator,),
            layers=(layer,) if layer else (),
        ) from error
    return tuple(
        (operator, layer_of_node(node, traced.layers) or node)
        for node, operator in replaced.items()
        if operator in _COARSE_IN_INT8
    )


def _serialize(model: str, graph: Any) -> bytes:
    size_bytes = graph.ByteSize()
    if size_bytes > _MAX_GRAPH_BYTES:
        raise ConversionError(
            model,
            f"its size is {size_bytes / 1e9:.1f} GB, and TensorFlow converts at most "
            f"{_MAX_GRAPH_BYTES / 1e9:.1f} GB. Use a smaller variant of the model, or convert "
            "parts of the model separately.",
        )
    return bytes(graph.SerializeToString())


def _leave_out_weights(graph: Any) -> Any:
    """Return a copy of a ``GraphDef`` with placeholders instead of weights."""
    import tensorflow as tf  # noqa: PLC0415

    outline = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        value = node.attr["value"].tensor if node.op == "Const" else None
        if value is None or len(value.tensor_content) <= _SHAPE_BYTES:
            outline.node.append(node)
        else:
            weight = outline.node.add(name=node.name, op="Placeholder")
            weight.attr["dtype"].CopyFrom(node.attr["dtype"])
            weight.attr["shape"].shape.CopyFrom(value.tensor_shape)
    return outline
