"""Load the model that a MODEL argument names, and convert the model to a ``.tflite`` file."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_partition.facts.find_facts import StatedFacts, find_facts, input_pixels
from edge_partition.facts.model_facts import ModelFacts, PictureOptions
from edge_partition.model.model_kinds import model_kind
from edge_partition.model.quantizations import QUANTIZATIONS
from edge_partition.model.reader import ModelRequest
from edge_partition.model.source_errors import ModelArgumentError
from edge_partition.tflite.fix_shapes import fix_shapes
from edge_partition.tflite.read_tflite import TfliteModel, read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from edge_partition.model.converter_process import ConverterProcess
    from edge_partition.model.frozen_model import FrozenModel
    from edge_partition.model.reader import ReadTflite
    from edge_partition.model.wrap_operations import WrappedOperation

__all__ = ["AS_GIVEN", "LoadedTflite", "ModelArgumentError", "load_model"]

#: Quantization of a model from a ``.tflite`` file, which is not converted.
AS_GIVEN = "as-given"


@dataclass(frozen=True)
class LoadedTflite:
    """A model that is ready for planning and slicing.

    Attributes:
        tflite: The ``.tflite`` file and its graph.
        name: The model's name in messages and in the manifest.
        quantization: One of :data:`~edge_partition.model.quantizations.QUANTIZATIONS`;
            :data:`AS_GIVEN` for a ``.tflite`` file.
        weights: Origin of the weights: ``trained``, ``imagenet`` or ``seeded``.
        facts: Facts about the inputs and outputs, and notes for the user.
        wrapped: Keras operations that became layers.
    """

    tflite: TfliteModel
    name: str
    quantization: str
    weights: str
    facts: ModelFacts = field(default_factory=ModelFacts)
    wrapped: tuple[WrappedOperation, ...] = ()


@dataclass(frozen=True)
class _Request:
    """The arguments of :func:`load_model`. The docstring of that function explains them."""

    source: str
    weights: str | None
    input_shapes: Mapping[str, Sequence[int]] | None
    quantization: str
    calibration: Callable[[Any], Iterable[list[Any]]] | None
    signature: str | None
    picture: PictureOptions | None


def load_model(
    source: str,
    *,
    weights: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    quantization: str = "none",
    calibration: Callable[[Any], Iterable[list[Any]]] | None = None,
    signature: str | None = None,
    picture: PictureOptions | None = None,
    on_step: Callable[[str], None] | None = None,
) -> LoadedTflite:
    """Load the model that a MODEL argument names, and convert the model to TFLite if necessary.

    Args:
        source: The MODEL argument: the name of a Keras application, a ``.keras``, ``.h5`` or
            ``.tflite`` file, the folder of a SavedModel, or ``package.module:function``.
        weights: A weights file, or ``seeded`` for random weights; for Keras models only.
        input_shapes: Shapes without the batch, by input name. The name ``""`` stands for every
            input that has open dimensions and that the shape fits.
        quantization: One of :data:`~edge_partition.model.quantizations.QUANTIZATIONS`.
        calibration: Function that takes the Keras model and returns the calibration inputs; for
            ``int8`` only.
        signature: Name of the signature, for a SavedModel or ``.tflite`` file with several
            signatures.
        picture: The user's options for the model's pictures and classes.
        on_step: Function that is called at the start of each step with the name of the step, such
            as ``Converting``.

    Raises:
        EdgePartitionError: The model or an option cannot be used; a subclass names the cause.
    """
    say = on_step or (lambda _step: None)
    request = _Request(source, weights, input_shapes, quantization, calibration, signature, picture)
    if not model_kind(source).needs_conversion:
        _check_tflite_options(request)
        say("Reading")
        return _load_tflite(request)
    _check_quantization(request)
    # The import changes Keras's settings in the environment. A .tflite file does not need Keras.
    from edge_partition.model.converter_process import ConverterProcess  # noqa: PLC0415

    # The child process loads TensorFlow at the same time as this process reads the model.
    with _quiet_keras(), ConverterProcess() as converter:
        return _load_keras(request, converter, say)


def _check_tflite_options(request: _Request) -> None:
    if (
        request.weights is not None
        or request.quantization != "none"
        or request.calibration is not None
    ):
        raise ModelArgumentError(
            f"{request.source} is already a .tflite file: --weights, --quantize and --calibration "
            "apply to Keras models only. Leave these options out."
        )


def _check_quantization(request: _Request) -> None:
    if request.quantization not in QUANTIZATIONS:
        raise ModelArgumentError(
            f"Quantization {request.quantization!r} does not exist; use one of "
            f"{', '.join(QUANTIZATIONS)}."
        )
    if (request.quantization == "int8") != (request.calibration is not None):
        raise ModelArgumentError(
            "--quantize int8 and --calibration must be used together. Give both (--quantize int8 "
            "--calibration IMAGES), or neither."
        )


def _load_tflite(request: _Request) -> LoadedTflite:
    read: ReadTflite = model_kind(request.source).import_reader()(
        ModelRequest(request.source, input_shapes=request.input_shapes, signature=request.signature)
    )
    return LoadedTflite(
        tflite=read.tflite,
        name=read.name,
        quantization=AS_GIVEN,
        weights="trained",
        facts=find_facts(read.tflite, read.stated, request.picture),
    )


@dataclass(frozen=True)
class _Prepared:
    """Facts about a model whose frozen graph was written for the converter.

    Attributes:
        name: The model's name.
        weights: Origin of the weights: ``trained``, ``imagenet`` or ``seeded``.
        stated: Facts that the model's file or the Keras model states.
        wrapped: Keras operations that became layers.
    """

    name: str
    weights: str
    stated: StatedFacts
    wrapped: tuple[WrappedOperation, ...]


def _load_keras(
    request: _Request, converter: ConverterProcess, say: Callable[[str], None]
) -> LoadedTflite:
    prepared = _prepare(request, converter, say)
    data = converter.convert(quantization=request.quantization)
    # The shape of a loop's result may be known only after a run, so fix_shapes runs the model.
    tflite = read_tflite(fix_shapes(data, name=prepared.name), name=prepared.name)
    return LoadedTflite(
        tflite=tflite,
        name=prepared.name,
        quantization=request.quantization,
        weights=prepared.weights,
        facts=find_facts(tflite, prepared.stated, request.picture),
        wrapped=prepared.wrapped,
    )


def _prepare(
    request: _Request, converter: ConverterProcess, say: Callable[[str], None]
) -> _Prepared:
    """Load and wrap the model, freeze the model, and write its frozen graph for the converter.

    Only this function holds the Keras model. The memory of the Keras weights is therefore free
    during the conversion.
    """
    say("Starting TensorFlow")
    # The import of TensorFlow takes seconds. Planning and running do not need TensorFlow.
    from edge_partition.model.keras_model import input_specs, load_keras_model  # noqa: PLC0415
    from edge_partition.model.traced_model import TracedModel  # noqa: PLC0415
    from edge_partition.model.wrap_operations import (  # noqa: PLC0415
        wrap_operations,
        wrapped_operations,
    )

    source = request.source
    say("Loading")
    loaded = load_keras_model(
        source,
        weights=request.weights,
        input_shapes=request.input_shapes,
        signature=request.signature,
    )
    if isinstance(loaded.model, TracedModel):
        model, wrapped = loaded.model, loaded.operations
    else:
        say("Wrapping operations")
        model = wrap_operations(loaded.model)
        wrapped = wrapped_operations(model)
    stated = StatedFacts(
        application=str(model.name) if model_kind(source).keeps_model_name else "",
        labels=loaded.labels,
        file=Path(source) if Path(source).is_file() else None,
        notes=loaded.notes,
        is_converted_here=True,
    )
    # This call checks the options for pictures before the conversion, which takes a minute.
    input_pixels(input_specs(model), stated, request.picture or PictureOptions())
    if request.calibration is not None:
        converter.write_examples(request.calibration(model))
    say("Converting")
    frozen = _freeze(model, request.quantization)
    frozen.check_quantization(request.quantization)
    converter.write_model(frozen)
    return _Prepared(loaded.name, loaded.weights, stated, wrapped)


def _freeze(model: Any, quantization: str) -> FrozenModel:
    from edge_partition.model.convert_tflite import freeze_function, freeze_model  # noqa: PLC0415
    from edge_partition.model.traced_model import TracedModel  # noqa: PLC0415

    if not isinstance(model, TracedModel) or model.keras2 is not None:
        return freeze_model(model, unroll=quantization == "int8")
    return freeze_function(
        lambda **tensors: model(list(tensors.values())),
        name=model.name,
        inputs=[(spec.name, spec) for spec in model.inputs],
        output_names=model.output_names,
        layers=model.layers,
    )


@contextlib.contextmanager
def _quiet_keras() -> Iterator[None]:
    """Within the block, suppress Keras's progress bars and its warnings about open dimensions.

    The warnings are needless, because the loading of a model fixes open dimensions.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
