"""A Keras model becomes one ``.tflite`` file whose tensors keep the layers' names."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from broker_config.errors import EdgePartitionError
from edge_partition import keras_setup  # noqa: F401 -- before Keras

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import keras
    import numpy as np

#: What :func:`convert_tflite` can make of the weights and activations.
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")

#: Constants of more bytes are weights; of fewer, what shapes may follow from.
_SHAPE_BYTES = 1024


class ConversionError(EdgePartitionError):
    """TensorFlow could not convert the model.

    Attributes:
        model: The model's name.
        operators: TensorFlow's names of the operators that TFLite has no builtin for.
        layers: The Keras layers that hold them, with the models they are nested in.
        log_path: What the converter printed; ``None`` if it did not get to run.
    """

    def __init__(
        self, model: str, reason: str, *, operators: tuple[str, ...] = (),
        layers: tuple[str, ...] = (), log_path: Path | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.operators = operators
        self.layers = layers
        self.log_path = log_path
        log = f" The converter's log: {log_path}" if log_path else ""
        super().__init__(f"{model} cannot be converted to TFLite: {reason}{log}")


@dataclass(frozen=True)
class FrozenModel:
    """A model to convert that needs its Keras model no more.

    Attributes:
        name: The Keras model's.
        layers: The names of its layers, those of nested models too.
        inputs: TensorFlow's ``TensorSpec`` of each input, in Keras's order.
        outputs: Of each output.
        content: A serialized ``GraphDef`` without variables, its nodes named by layers.
        outline: That ``GraphDef`` without its weights.
    """

    name: str
    layers: frozenset[str]
    inputs: tuple[Any, ...] = field(repr=False)
    outputs: tuple[Any, ...] = field(repr=False)
    content: bytes = field(repr=False)
    outline: Any = field(repr=False)


def freeze_model(model: keras.Model, *, log_path: str | Path | None = None) -> FrozenModel:
    """Prepare ``model`` for :func:`convert_tflite`, with the batch fixed at 1.

    Converting takes some seven times the weights' memory. Who lets go of ``model`` in between
    has its own weights' memory for that.

    Args:
        model: All dimensions but the batch must be fixed.
        log_path: Where TensorFlow's output goes. By default to a temporary file, which stays
            only if this fails.

    Raises:
        ConversionError: A shape is not fixed, or TFLite has no operator for something in the model.
    """
    for tensor in model.inputs:
        if None in tensor.shape[1:]:
            raise ConversionError(
                model.name,
                f"input {tensor.name!r} has shape {tensor.shape}; all but the batch must be fixed. "
                "Give --input-shape.",
            )
    _check_outputs(model)
    layers = frozenset(layer.name for layer in model._flatten_layers())  # noqa: SLF001
    with _explained(model.name, layers, log_path):
        return _freeze(model, layers)


def convert_tflite(
    model: keras.Model | FrozenModel,
    *,
    quantization: str = "none",
    calibration: Iterable[Sequence[np.ndarray]] | None = None,
    log_path: str | Path | None = None,
) -> bytes:
    """Convert ``model``, with the batch fixed at 1, to the bytes of a ``.tflite`` file.

    Inputs and outputs stand in Keras's order. An input is called what its Keras input layer is
    called, an output what the layer that computes it is called, with ``_1`` and so on where that
    repeats. Any other tensor's name is ``model/layer/operator``.

    Args:
        model: All dimensions but the batch must be fixed. Or what :func:`freeze_model` made of it.
        quantization: ``none``: float32. ``float16``: weights kept as float16. ``dynamic``: weights
            kept as int8, activations float32. ``int8``: weights and activations int8, the model's
            inputs and outputs as they are in Keras.
        calibration: For ``int8``: examples, each an array an input in Keras's order, each
            array with a batch of 1, in the range the model will see.
        log_path: Where the converter's output goes. By default to a temporary file, which stays
            only if the conversion fails.

    Raises:
        ConversionError: A shape is not fixed, the options do not fit together, or TFLite has no
            operator for something in the model.
    """
    if quantization not in QUANTIZATIONS:
        raise ConversionError(
            model.name, f"quantization is {quantization!r}; expected {', '.join(QUANTIZATIONS)}."
        )
    if (quantization == "int8") != (calibration is not None):
        raise ConversionError(
            model.name,
            "int8 needs calibration examples, and only int8 takes them. Give examples of real "
            "inputs, or choose another quantization.",
        )
    frozen = model if isinstance(model, FrozenModel) else freeze_model(model, log_path=log_path)
    with _explained(frozen.name, frozen.layers, log_path):
        return _convert(frozen, quantization, calibration)


def _check_outputs(model: keras.Model) -> None:
    """Refuse one tensor as two outputs: TFLite would give both one name."""
    first: dict[int, int] = {}
    for position, tensor in enumerate(model.outputs):
        other = first.setdefault(id(tensor), position)
        if other != position:
            raise ConversionError(
                model.name,
                f"outputs {other} and {position} are the same tensor, of layer "
                f"{model.output_names[position]!r}. Give each tensor as an output once.",
                layers=(model.output_names[position],),
            )


def _convert(
    frozen: FrozenModel, quantization: str, calibration: Iterable[Sequence[np.ndarray]] | None
) -> bytes:
    import tensorflow as tf  # noqa: PLC0415 -- seconds, which `-h` need not take

    # A function with the model in it would be frozen once more, at ten times its weights' memory.
    empty = tf.function(lambda: None, autograph=False).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([empty])
    graph = SimpleNamespace(
        node=frozen.outline.node,
        library=frozen.outline.library,
        SerializeToString=lambda: frozen.content,
    )
    converter._freeze_concrete_function = lambda: (  # noqa: SLF001
        graph,
        frozen.inputs,
        frozen.outputs,
        None,
    )
    if quantization != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if calibration is not None:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        examples = [list(example) for example in calibration]
        converter.representative_dataset = lambda: iter(examples)
    _give_back_memory()
    content = bytes(converter.convert())
    _give_back_memory()
    return content


def _give_back_memory() -> None:
    """Return what was freed to the system: TensorFlow leaves more holes than it has in use."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
        trim(0)


def _freeze(model: keras.Model, layers: frozenset[str]) -> FrozenModel:
    """Turn variables, which would become operators that runtimes disagree on, into constants."""
    import keras  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415
    from tensorflow.python.framework import convert_to_constants  # noqa: PLC0415

    def call(*tensors: Any) -> list[Any]:
        inputs = keras.tree.pack_sequence_as(model.input, list(tensors))
        return list(keras.tree.flatten(model(inputs, training=False)))

    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    function = tf.function(call, autograph=False).get_concrete_function(*specs)
    # The public convert_variables_to_constants_v2 makes a function of the graph, and there
    # TensorFlow holds each constant some seven times.
    values = convert_to_constants._FunctionConverterDataInEager(  # noqa: SLF001
        func=function,
        lower_control_flow=False,  # TFLite has WHILE and IF, but no Switch and Merge
        aggressive_inlining=False,
    )
    graph, _ = convert_to_constants._replace_variables_by_constants(values)  # noqa: SLF001
    outline = _leave_out_weights(graph)
    with tf.Graph().as_default() as inferred:
        tf.graph_util.import_graph_def(outline, name="")
    outputs = [inferred.get_tensor_by_name(tensor.name) for tensor in function.outputs]
    _check_dtypes(model, inferred, layers)
    _check_output_shapes(model, outputs)
    input_names = _make_unique([tensor.name for tensor in model.inputs])
    output_names = _make_unique(model.output_names, taken=input_names)
    renamed = {
        tensor.op.name: name
        # What the function captures comes after its inputs.
        for tensor, name in zip(function.inputs[: len(specs)], input_names, strict=True)
    } | {tensor.op.name: name for tensor, name in zip(outputs, output_names, strict=True)}
    _rename_nodes(graph, renamed, layers)
    return FrozenModel(
        name=model.name,
        layers=layers,
        inputs=tuple(
            tf.TensorSpec(spec.shape, spec.dtype, name)
            for spec, name in zip(specs, input_names, strict=True)
        ),
        outputs=tuple(
            tf.TensorSpec(tensor.shape, tensor.dtype, name)
            for tensor, name in zip(outputs, output_names, strict=True)
        ),
        content=graph.SerializeToString(),
        outline=outline,
    )


def _leave_out_weights(graph: Any) -> Any:
    """Return a ``GraphDef`` of the same tensors, with placeholders for weights."""
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


def _check_dtypes(model: keras.Model, graph: Any, layers: Collection[str]) -> None:
    """Refuse strings and tables, which boards' runtimes have no operators for."""
    found: dict[str, str] = {}
    for node in graph.get_operations():
        if node.type == "Const" or not {x.dtype.name for x in node.outputs} & {
            "string",
            "resource",
        }:
            continue
        readers = [reader for output in node.outputs for reader in output.consumers()]
        for holder in readers if node.type == "Placeholder" else [node]:
            if layer := _holding_layer(holder.name, layers):
                found[layer] = holder.type
    if not found:
        return
    raise ConversionError(
        model.name,
        f"layer {', '.join(sorted(found))} works with strings or a lookup table, for which TFLite "
        "has no builtin operators. Take that step before the model, and give the model numbers.",
        operators=tuple(sorted(set(found.values()))),
        layers=tuple(sorted(found)),
    )


def _check_output_shapes(model: keras.Model, outputs: list[Any]) -> None:
    """Refuse outputs that are larger or smaller from one input to the next."""
    for spec, tensor, name in zip(model.outputs, outputs, model.output_names, strict=True):
        if None in spec.shape and not tensor.shape.is_fully_defined():
            raise ConversionError(
                model.name,
                f"the shape of output {name!r} depends on the input's values "
                f"({tensor.op.type} gives {tensor.shape}), and a board needs it fixed. End the "
                "model before that layer.",
                operators=(tensor.op.type,),
                layers=(name,),
            )


def _holding_layer(node_name: str, layers: Collection[str]) -> str:
    """Return the innermost layer in a node's path, after the models it is nested in; or ``""``."""
    scopes = _strip_scope_numbers(node_name, layers).split("/")[:-1]
    while scopes and scopes[-1] not in layers:
        scopes.pop()
    return "/".join(scopes)


def _rename_nodes(graph: Any, renamed: dict[str, str], layers: Collection[str]) -> None:
    """Rename the nodes of a ``GraphDef``: some as told, the others to their layers' exact names."""
    names: dict[str, str] = {}
    taken = set(renamed.values())
    for node in graph.node:
        if node.name not in renamed:
            (name,) = _make_unique([_strip_scope_numbers(node.name, layers)], taken=taken)
            taken.add(name)
            names[node.name] = name
    names |= renamed
    for node in graph.node:
        node.name = names[node.name]
        node.attr.pop("_class", None)
        node.ClearField("experimental_debug_info")  # names within functions that were inlined
        for position, source in enumerate(node.input):
            control, name, port = re.fullmatch(r"(\^?)([^:]+)(:\d+)?", source).groups("")  # type: ignore[union-attr]
            node.input[position] = f"{control}{names[name]}{port}"


def _strip_scope_numbers(node_name: str, layers: Collection[str]) -> str:
    """Give the layers in a node's path their exact names.

    Keras opens a layer's name scope twice, to build it and to call it, so TensorFlow numbers
    the second: ``model_1/conv_1/Relu`` for the layer ``conv``.
    """
    *scopes, operator = node_name.split("/")
    stems = [re.sub(r"_\d+$", "", scope) for scope in scopes]
    return "/".join(
        [
            stem if stem != scope and stem in layers else scope
            for scope, stem in zip(scopes, stems, strict=True)
        ]
        + [operator]
    )


def _make_unique(names: Iterable[str], *, taken: Iterable[str] = ()) -> list[str]:
    """Number the names that repeat, or that are in ``taken``."""
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


@contextlib.contextmanager
def _explained(model: str, layers: Collection[str], log_path: str | Path | None) -> Iterator[None]:
    """Keep TensorFlow's output in a log, and say what it raises in words of the Keras model."""
    log = Path(log_path) if log_path else Path(_make_temporary_file())
    try:
        with _output_to(log), _plain_tracebacks():
            yield
    except ConversionError:
        if log_path is None:
            log.unlink()
        raise
    except Exception as error:  # TensorFlow documents no type, and raises many.
        raise _explain(model, layers, error, log) from error
    if log_path is None:
        log.unlink()


def _explain(model: str, layers: Collection[str], error: Exception, log: Path) -> ConversionError:
    text = f"{error}\n{log.read_text(errors='replace')}"
    operators = tuple(sorted(set(re.findall(r"'tf\.(\w+)' op is neither a custom op", text))))
    holders = set()
    for operator in operators:
        for path in re.findall(rf'"([^"]*/{operator}(?:_\d+)?)"', text):
            holders.add(_holding_layer(path, layers))
    for path in re.findall(r'callsite\("([^"]+)"\(.*op is neither a custom op', text):
        holders.add(_holding_layer(path, layers))
    if not operators:
        holders.add(_running_layer(error))
    holders.discard("")
    where = f" in layer {', '.join(sorted(holders))}" if holders else ""
    if operators:
        reason = (
            f"TFLite has no operator for {', '.join(operators)}{where}. Replace the layer by "
            "operations that TFLite has."
        )
    else:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        first_sentence = lines[-1].partition(". ")[0] if lines else type(error).__name__
        reason = f"{first_sentence.rstrip('.')}{where}."
    return ConversionError(
        model, reason, operators=operators, layers=tuple(sorted(holders)), log_path=log
    )


def _running_layer(error: Exception) -> str:
    """Return the name of the innermost layer that was being called when ``error`` came up."""
    import keras  # noqa: PLC0415

    name = ""
    traceback = error.__traceback__
    while traceback is not None:
        caller = traceback.tb_frame.f_locals.get("self")
        if isinstance(caller, keras.layers.Layer) and not isinstance(caller, keras.Model):
            name = str(caller.name)
        traceback = traceback.tb_next
    return name


@contextlib.contextmanager
def _plain_tracebacks() -> Iterator[None]:
    """Keep Keras from writing the call's arguments into an error, and its layers out of it."""
    import keras  # noqa: PLC0415

    was_enabled = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if was_enabled:
            keras.config.enable_traceback_filtering()


def _make_temporary_file() -> str:
    descriptor, path = tempfile.mkstemp(prefix="edge-partition-convert-", suffix=".log")
    os.close(descriptor)
    return path


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what this process prints, its C++ libraries included, to ``path``."""
    with path.open("w") as log, contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(log.fileno(), descriptor)
        stack.enter_context(contextlib.redirect_stdout(log))
        stack.enter_context(contextlib.redirect_stderr(log))
        yield
