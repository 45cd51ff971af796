"""A MODEL argument becomes the one ``.tflite`` file that planning and slicing work on."""

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

AS_GIVEN = "as-given"


@dataclass(frozen=True)
class LoadedTflite:
    """A model that is ready for planning and slicing.

    Attributes:
        tflite: The flatbuffer and its graph.
        name: The model's name in messages and in the manifest.
        quantization: One of :data:`~edge_partition.model.quantizations.QUANTIZATIONS`;
            ``as-given`` for a ``.tflite`` argument.
        weights: ``trained``, ``imagenet`` or ``seeded``.
        facts: The meaning of inputs and outputs, and notes for the user.
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
    """The arguments of :func:`load_model`, which documents them."""

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
    """Load, wrap and convert a model; a ``.tflite`` file is read without conversion.

    Args:
        source: Name of a Keras application, a ``.keras``, ``.h5`` or ``.tflite`` file, the folder
            of a SavedModel, or ``package.module:function``.
        weights: ``seeded`` or a weights file; for Keras models only.
        input_shapes: Shapes without the batch, by input name; ``""`` stands for every input with
            open dimensions.
        quantization: One of :data:`~edge_partition.model.quantizations.QUANTIZATIONS`.
        calibration: Function from the Keras model to its calibration inputs; for ``int8`` only.
        signature: Name of the signature, for a SavedModel with several signatures.
        picture: Options for the model's pictures and classes.
        on_step: Function that is called with the name of each step.

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
    # The import changes settings of Keras, which a .tflite file does not need.
    from edge_partition.model.converter_process import ConverterProcess  # noqa: PLC0415

    # The child loads TensorFlow while this process reads the model.
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
            f"Quantization {request.quantization!r} is not known; expected "
            f"{', '.join(QUANTIZATIONS)}."
        )
    if (request.quantization == "int8") != (request.calibration is not None):
        raise ModelArgumentError(
            "Quantization int8 needs calibration inputs, and no other quantization takes any. "
            "Give both: --quantize int8 --calibration IMAGES."
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
    """A Keras model whose frozen graph was written for the converter.

    Attributes:
        name: The model's name.
        weights: As in :class:`LoadedTflite`.
        stated: Statements about the model's inputs and outputs.
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
    # The result of a loop may have a shape that is known only after a run.
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
    """Load and wrap the model, and write its frozen graph for the converter.

    Only this function holds the Keras model, so the memory of its weights is free during the
    conversion.
    """
    say("Starting TensorFlow")
    # TensorFlow takes seconds to import, and planning and running do not need it.
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
    # Options for pictures are checked before the conversion, which takes a minute.
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
    """Suppress Keras's output: progress of downloads, and warnings about unknown dimensions.

    Loading replaces unknown dimensions with fixed sizes anyway.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
