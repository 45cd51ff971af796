"""Change any Keras 3 model to a Functional model with inputs of fixed shape."""

# ruff: noqa: SLF001 -- Keras has no public way to walk a model's nodes.
from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
from keras.src.models.functional import Functional

from edge_partition.model.find_reason import find_reason
from edge_partition.model.settle_shapes import format_shape, settle_shapes
from edge_partition.model.source_errors import InputShapeError
from edge_partition.model.wrap_operations import is_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Layers whose inputs are integers: indices into a table.
_INDEXING = (keras.layers.Embedding,)


def make_functional(
    source: str,
    model: keras.Model,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> keras.Model:
    """Return ``model`` as a Functional model with fixed input shapes and a batch of 1.

    Inputs keep their names, dtypes, order and structure. A Sequential model that was never built
    gets an input with the input shape of its first layer. The graph of a subclassed model exists
    only in its Python code, so a subclassed model becomes one layer of the Functional model. The
    inputs then have the shapes for which the subclassed model was built.

    Args:
        source: The MODEL argument, for error messages.
        model: Any Keras 3 model.
        input_shapes: Shapes without the batch, as
            :func:`~edge_partition.model.settle_shapes.settle_shapes` takes them.

    Raises:
        InputShapeError: A dimension remains open, or a layer does not accept a given shape.
    """
    if not is_graph(model):
        return _from_subclassed(source, model, input_shapes)
    graph = model._functional if isinstance(model, keras.Sequential) else model
    if graph is None:
        return _from_sequential(source, model, input_shapes)
    names = input_names(model)
    _check_batch(source, model, graph.inputs)
    open_inputs = {
        name: tuple(tensor.shape[1:]) for name, tensor in zip(names, graph.inputs, strict=True)
    }
    shapes = settle_shapes(source, open_inputs, input_shapes)
    is_as_wanted = all(
        (tensor.name, tuple(tensor.shape)) == (name, (1, *shapes[name]))
        for name, tensor in zip(names, graph.inputs, strict=True)
    )
    if is_as_wanted and type(model) is Functional:
        return model
    inputs = [
        keras.Input(
            batch_shape=(1, *shapes[name]),
            dtype=tensor.dtype,
            sparse=tensor.sparse,
            name=name,
            optional=getattr(tensor._keras_history.operation, "optional", False),
        )
        for name, tensor in zip(names, graph.inputs, strict=True)
    ]

    def run() -> Any:
        return graph._run_through_graph(  # Keras's only walk over a graph
            inputs, call_fn=lambda operation, *args, **kwargs: operation(*args, **kwargs)
        )

    outputs = _with_shape_errors(source, shapes, run)
    structure = keras.tree.pack_sequence_as(graph._inputs_struct, inputs)
    return keras.Model(structure, outputs, name=model.name)


def _check_batch(source: str, model: keras.Model, inputs: Sequence[keras.KerasTensor]) -> None:
    """Refuse a model that keeps several states, one for each sequence in its batch."""
    sizes = {tensor.shape[0] for tensor in inputs} - {None, 1}
    stateful = [x.name for x in model._flatten_layers() if getattr(x, "stateful", False)]
    if sizes and stateful:
        raise InputShapeError(
            source,
            f"was built for batches of {sizes.pop()}, and layer {', '.join(stateful)} keeps a "
            "state for each sequence in the batch, but a request has a batch of 1. Build the model "
            "with batch_shape=(1, ...), and load the same weights.",
        )


def input_names(model: keras.Model) -> list[str]:
    """Return the names of a model's input layers. The input tensors may have other names."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return [str(tensor._keras_history.operation.name) for tensor in graph.inputs]


def _from_sequential(
    source: str, model: keras.Sequential, input_shapes: Mapping[str, Sequence[int]] | None
) -> keras.Model:
    """Return a Functional model with the layers of a Sequential model that was never built."""
    if not model.layers:
        raise InputShapeError(source, "is a Sequential model without layers. Add layers.")
    first, *_ = model._layers
    known = _known_shape(first)
    if known is None:
        if not input_shapes:
            raise InputShapeError(
                source,
                f"is a Sequential model without an input shape: it has no keras.Input, and its "
                f"first layer, {first.name!r}, was not built. Give the shape without the batch, "
                "such as --input-shape 28,28,1.",
            )
        ((name, given),) = list(input_shapes.items())[:1]
        name, shape = name or "input", tuple(given)
    else:
        name = _input_name(first)
        shape = settle_shapes(source, {name: known}, input_shapes)[name]
    dtype = "int32" if isinstance(first, _INDEXING) else model.input_dtype
    x = keras.Input(batch_shape=(1, *shape), dtype=dtype, name=name)

    def run() -> Any:
        y = x
        for layer in model.layers:
            y = layer(y)
        return y

    return keras.Model(x, _with_shape_errors(source, {name: shape}, run), name=model.name)


def _from_subclassed(
    source: str, model: keras.Model, input_shapes: Mapping[str, Sequence[int]] | None
) -> keras.Model:
    """Return a Functional model whose only layer is ``model``."""
    structure = _built_for(source, model, input_shapes)
    known: list[tuple[int | None, ...]] = []
    keras.tree.map_shape_structure(lambda shape: known.append(tuple(shape[1:])), structure)
    if isinstance(structure, dict):
        names = sorted(map(str, structure))  # the order in which Keras flattens a dictionary
    else:
        names = ["input"] if len(known) == 1 else [f"input_{place}" for place in range(len(known))]
    shapes = settle_shapes(source, dict(zip(names, known, strict=True)), input_shapes)
    is_indexing = bool(model.layers) and isinstance(model.layers[0], _INDEXING)
    dtype = "int32" if is_indexing and len(names) == 1 else model.input_dtype
    inputs = [keras.Input(batch_shape=(1, *shapes[name]), dtype=dtype, name=name) for name in names]
    waiting = iter(inputs)
    given = keras.tree.map_shape_structure(lambda _: next(waiting), structure)
    return keras.Model(
        given, _with_shape_errors(source, shapes, lambda: model(given)), name=model.name
    )


def _built_for(
    source: str, model: keras.Model, input_shapes: Mapping[str, Sequence[int]] | None
) -> Any:
    """Return the input shape for which a subclassed model was built.

    If the model has several inputs, the result is a list or a dictionary of shapes. Shapes include
    the batch. If the model was never built, the result has open dimensions only, and as many
    dimensions as the first shape in ``input_shapes``, plus the batch.

    Raises:
        InputShapeError: The model was never built, and ``input_shapes`` is empty. Or the model's
            ``call`` needs several arguments: Keras records only the shape of the first argument.
    """
    what = f"is a subclassed model ({type(model).__name__})"
    first, *others = inspect.signature(model.call).parameters.values()
    required = [
        other.name
        for other in others
        if other.default is other.empty and other.kind is other.POSITIONAL_OR_KEYWORD
    ]
    if required:
        raise InputShapeError(
            source,
            f"{what}; its call() takes the arguments {', '.join([first.name, *required])}, but "
            "Keras records the shape of the first argument only. Build the model with "
            "keras.Model(inputs, outputs), or give the folder that model.export(FOLDER) writes.",
        )
    built_for = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if built_for:
        return built_for
    if input_shapes:
        return (None,) * (1 + len(next(iter(input_shapes.values()))))
    raise InputShapeError(
        source,
        f"{what} that was never built, so its input shape is unknown. Give the shape without the "
        "batch, such as --input-shape 28,28,1; or call the model once where it is made.",
    )


def _known_shape(layer: keras.layers.Layer) -> tuple[int | None, ...] | None:
    """Return the input shape of ``layer`` without the batch; None if the shape is unknown."""
    if isinstance(layer, keras.layers.InputLayer):
        return tuple(layer.batch_shape[1:])
    if isinstance(layer, keras.Model):
        if not is_graph(layer):
            return None
        if isinstance(layer, keras.Sequential) and layer._functional is None:
            return _known_shape(layer.layers[0]) if layer.layers else None
        return tuple(layer.inputs[0].shape[1:]) if len(layer.inputs) == 1 else None
    built_for = (layer.get_build_config() or {}).get("input_shape") if layer.built else None
    if built_for and all(size is None or isinstance(size, int) for size in built_for):
        return tuple(built_for[1:])
    return None


def _input_name(layer: keras.layers.Layer) -> str:
    while isinstance(layer, keras.Sequential) and layer._functional is None:
        layer = layer.layers[0]
    if isinstance(layer, keras.layers.InputLayer):
        return str(layer.name)
    return input_names(layer)[0] if isinstance(layer, keras.Model) else "input"


def _with_shape_errors(
    source: str, shapes: Mapping[str, Sequence[int]], run: Callable[[], Any]
) -> Any:
    try:
        return run()
    except Exception as error:  # Layers raise different errors for a wrong shape.
        spelled = ", ".join(
            format_shape(shape) if len(shapes) == 1 else f"{name!r} {format_shape(shape)}"
            for name, shape in shapes.items()
        )
        raise InputShapeError(
            source,
            f"cannot be built for input {spelled}: {find_reason(error)}. Give another "
            "--input-shape.",
        ) from error
