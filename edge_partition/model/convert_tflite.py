"""Convert a Keras model to one ``.tflite`` file whose tensors are named after layers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_core.program import heap
from edge_partition.model import keras_setup  # noqa: F401 -- before Keras
from edge_partition.model.assigned_variables import name_ports, save_function
from edge_partition.model.conversion_log import ConversionError, explained_errors
from edge_partition.model.escape_names import restore_tensor_names
from edge_partition.model.freeze_model import freeze_function, freeze_model
from edge_partition.model.frozen_model import FrozenModel
from edge_partition.model.quantizations import QUANTIZATIONS

__all__ = [
    "ConversionError",
    "FrozenModel",
    "convert_tflite",
    "freeze_function",
    "freeze_model",
]


def convert_tflite(
    model: Any,
    *,
    quantization: str = "none",
    calibration: Iterable[Sequence[np.ndarray]] | None = None,
    log_path: str | Path | None = None,
) -> bytes:
    """Convert ``model``, with the batch fixed at 1, to the bytes of a ``.tflite`` file.

    Inputs and outputs keep Keras's order. An input has the name of its Keras input layer. An output
    has the name of the layer that computes the output. If a name repeats, ``_1``, ``_2`` and so on
    are added. Other tensors have names of the form ``model/layer/operator``.

    Args:
        model: A Keras model whose dimensions except the batch are fixed, or a
            :class:`FrozenModel`.
        quantization: ``none``: float32. ``float16``: float16 weights. ``dynamic``: int8 weights,
            float32 activations. ``int8``: int8 weights and activations; the dtypes of the model's
            inputs and outputs do not change.
        calibration: Examples for ``int8``, in the range of the model's real inputs. Each example
            has one array per input in Keras's order, with a batch of 1. All examples of an iterator
            are kept in memory. To save memory, give an object that can be iterated several times.
        log_path: File for the converter's output. With None, a temporary file is used, which is
            deleted unless the conversion fails.

    Raises:
        ConversionError: A shape is not fixed, the options do not fit together, or TFLite has no
            operator for an operation in the model.
    """
    check_options(model.name, quantization, calibrated=calibration is not None)
    if not isinstance(model, FrozenModel):
        model = freeze_model(model, unroll=quantization == "int8", log_path=log_path)
    model.check_quantization(quantization)
    if isinstance(calibration, Iterator):
        calibration = list(calibration)
    with explained_errors(model.name, model.layers, log_path):
        return _convert(model, quantization, calibration)


def check_options(model: str, quantization: str, *, calibrated: bool) -> None:
    """Check that the quantization is known, and that calibration examples are given only for int8.

    Args:
        model: The model's name, for error messages.
        quantization: The wanted quantization.
        calibrated: Whether calibration examples are given.

    Raises:
        ConversionError: The quantization is unknown, int8 has no calibration examples, or another
            quantization has calibration examples.
    """
    if quantization not in QUANTIZATIONS:
        raise ConversionError(
            model,
            f"quantization {quantization!r} does not exist; use one of {', '.join(QUANTIZATIONS)}.",
        )
    if (quantization == "int8") != calibrated:
        raise ConversionError(
            model,
            f"quantization {quantization} was chosen {'with' if calibrated else 'without'} "
            "calibration examples. Give calibration examples for int8, and give none for other "
            "quantizations.",
        )


def _convert(
    frozen: FrozenModel, quantization: str, calibration: Iterable[Sequence[np.ndarray]] | None
) -> bytes:
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds

    with tempfile.TemporaryDirectory(prefix="edge-partition-") as folder:
        if frozen.variables:
            converter = _function_converter(frozen, Path(folder))
        else:
            converter = _graph_converter(frozen)
        if quantization != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if calibration is not None:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: _check_examples(frozen, calibration)
        heap.give_back()
        content = bytes(converter.convert())
    heap.give_back()
    if frozen.variables:
        inputs, outputs = ([spec.name for spec in ends] for ends in (frozen.inputs, frozen.outputs))
        content = name_ports(content, inputs, outputs)
    return restore_tensor_names(content, frozen.name)


def _check_examples(
    frozen: FrozenModel, examples: Iterable[Sequence[np.ndarray]]
) -> Iterator[list[np.ndarray[Any, Any]]]:
    """Yield the calibration examples with the dtypes of the model's inputs.

    Raises:
        ConversionError: The shapes of an example do not fit the inputs, or there are no examples.
    """
    wanted = [tuple(spec.shape.as_list()) for spec in frozen.inputs]
    count = 0
    for count, example in enumerate(examples, 1):
        arrays = [
            np.asarray(array, spec.dtype.as_numpy_dtype)
            for spec, array in zip(frozen.inputs, example, strict=False)
        ]
        found = [array.shape for array in arrays]
        if found != wanted or len(example) != len(wanted):
            raise ConversionError(
                frozen.name,
                f"calibration example {count} has {len(example)} arrays of shapes "
                f"{', '.join(map(str, found))}; the model takes arrays of shapes "
                f"{', '.join(map(str, wanted))}. Give examples with the shapes of the model's "
                "inputs.",
            )
        yield arrays
    if not count:
        raise ConversionError(
            frozen.name, "there are no calibration examples. Give examples of real inputs."
        )


def _graph_converter(frozen: FrozenModel) -> Any:
    """Return TensorFlow's converter for a frozen graph without variables."""
    import tensorflow as tf  # noqa: PLC0415

    # The converter freezes a function again, which takes ten times the memory of the weights. So
    # the converter gets an empty function, and its freezing method is replaced: the replacement
    # returns the frozen graph.
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
    return converter


def _function_converter(frozen: FrozenModel, folder: Path) -> Any:
    """Return TensorFlow's converter for a frozen graph that assigns variables.

    The converter accepts such a graph only as a SavedModel, which is written into ``folder``.
    """
    import tensorflow as tf  # noqa: PLC0415

    save_function(frozen.content, frozen.variables, frozen.inputs, frozen.outputs, folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.experimental_enable_resource_variables = True
    return converter
