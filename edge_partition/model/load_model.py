"""MODEL argument -> the one ``.tflite`` that everything after works on."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.errors import EdgePartitionError
from edge_partition.facts.find_facts import Said, find_facts, input_pixels
from edge_partition.facts.model_facts import ModelFacts, PictureOptions
from edge_partition.facts.read_labels import read_labels
from edge_partition.model.quantizations import QUANTIZATIONS
from edge_partition.model.saved_model import is_saved_model
from edge_partition.tflite.fix_shapes import fix_shapes
from edge_partition.tflite.read_tflite import InvalidModelError, TfliteModel, map_file, read_tflite
from edge_partition.tflite.signatures import choose_signature
from edge_partition.tflite.tflite_metadata import read_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from edge_partition.model.converter_process import ConverterProcess
    from edge_partition.model.freeze_model import FrozenModel
    from edge_partition.model.wrap_operations import WrappedOperation
    from edge_partition.tflite.read_tflite import Bytes

AS_GIVEN = "as-given"


class ModelArgumentError(EdgePartitionError):
    """The MODEL argument, or options that don't go with it, can't be used."""


@dataclass(frozen=True)
class LoadedTflite:
    """A model ready to be planned and sliced.

    Attributes:
        tflite: The flatbuffer and its graph.
        name: For people.
        quantization: How it was converted; ``as-given`` for a ``.tflite`` argument.
        weights: ``trained``, ``imagenet`` or ``seeded``.
        facts: What its inputs take and its outputs mean, and what people should be told of it.
        wrapped: The Keras operations that were no layers and now are.
    """

    tflite: TfliteModel
    name: str
    quantization: str
    weights: str
    facts: ModelFacts = field(default_factory=ModelFacts)
    wrapped: tuple[WrappedOperation, ...] = ()


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
    """Load, wrap and convert a model; a ``.tflite`` is read as it is.

    Args:
        source: Keras application, ``.keras``, ``.h5`` or ``.tflite`` file, a SavedModel's folder,
            or ``package.module:function``.
        weights: ``seeded`` or a weights file, for Keras models.
        input_shapes: Shapes without the batch, by the input's name; ``""`` for every input that
            the model leaves open.
        quantization: One of :data:`QUANTIZATIONS`.
        calibration: For ``int8``: given the Keras model, yields its inputs.
        signature: The one to take of a model that has several.
        picture: What a person says of the model's pictures and classes.
        on_step: Called with what is being done.

    Raises:
        EdgePartitionError: Its leaves say what was wrong with the model or the options.
    """
    say = on_step or (lambda _step: None)
    if source.endswith(".tflite"):
        if weights is not None or quantization != "none" or calibration is not None:
            raise ModelArgumentError(
                f"{source} is already a .tflite file: --weights, --quantize and --calibration "
                "apply to Keras models only. Leave these options out."
            )
        say("Reading")
        return _load_tflite(Path(source), input_shapes, signature, picture)
    if quantization not in QUANTIZATIONS:
        raise ModelArgumentError(
            f"Quantization {quantization!r} is not known; expected {', '.join(QUANTIZATIONS)}."
        )
    if (quantization == "int8") != (calibration is not None):
        raise ModelArgumentError(
            "Quantization int8 needs calibration inputs, and no other quantization takes any. "
            "Give both: --quantize int8 --calibration IMAGES."
        )
    # The settings that it makes for Keras are no business of a .tflite file.
    from edge_partition.model.converter_process import ConverterProcess  # noqa: PLC0415

    # It loads TensorFlow for itself while this process reads the model.
    with _quiet_keras(), ConverterProcess() as converter:
        return _load_keras(
            source,
            converter,
            weights=weights,
            input_shapes=input_shapes,
            quantization=quantization,
            calibration=calibration,
            signature=signature,
            picture=picture,
            say=say,
        )


def _load_tflite(
    path: Path,
    input_shapes: Mapping[str, Sequence[int]] | None,
    signature: str | None,
    picture: PictureOptions | None,
) -> LoadedTflite:
    try:
        # Mapped, not read: bytes would stay in memory.
        file = map_file(path)
        chosen = choose_signature(file, signature, model_name=path.stem)
        tflite = _read_file(chosen.data, path.stem, input_shapes)
        metadata = read_metadata(file, chosen.subgraph)
    except OSError as error:
        raise ModelArgumentError(
            f"{path} can't be read: {error.strerror or error}; expected a .tflite file."
        ) from None
    except InvalidModelError as error:
        raise ModelArgumentError(f"{path}: {error}") from None
    return LoadedTflite(
        tflite=tflite,
        name=path.stem,
        quantization=AS_GIVEN,
        weights="trained",
        facts=find_facts(
            tflite,
            Said(labels=read_labels(path), metadata=metadata, file=path, notes=chosen.notes),
            picture,
        ),
    )


def _read_file(
    data: Bytes, name: str, input_shapes: Mapping[str, Sequence[int]] | None
) -> TfliteModel:
    tflite = read_tflite(fix_shapes(data, name=name, input_shapes=input_shapes), name=name)
    flex = sorted(kind for kind in tflite.custom_operators if kind.startswith("Flex"))
    if flex:
        raise InvalidModelError(
            f"{name} has operators that only TensorFlow runs, and boards have no TensorFlow: "
            f"{', '.join(flex)}. Convert the model with TFLite's builtin operators only."
        )
    return tflite


def _load_keras(
    source: str,
    converter: ConverterProcess,
    *,
    weights: str | None,
    input_shapes: Mapping[str, Sequence[int]] | None,
    quantization: str,
    calibration: Callable[[Any], Iterable[list[Any]]] | None,
    signature: str | None,
    picture: PictureOptions | None,
    say: Callable[[str], None],
) -> LoadedTflite:
    say("Starting TensorFlow")
    # It takes seconds to import, and planning or running needs none of it.
    from edge_partition.model.keras_model import input_specs, load_keras_model  # noqa: PLC0415
    from edge_partition.model.traced_model import TracedModel  # noqa: PLC0415
    from edge_partition.model.wrap_operations import (  # noqa: PLC0415
        wrap_operations,
        wrapped_operations,
    )

    say("Loading")
    loaded = load_keras_model(
        source, weights=weights, input_shapes=input_shapes, signature=signature
    )
    if isinstance(loaded.model, TracedModel):
        wrapped, operations = loaded.model, loaded.operations
    else:
        say("Wrapping operations")
        wrapped = wrap_operations(loaded.model)
        operations = wrapped_operations(wrapped)
    name, trained = loaded.name, loaded.weights
    said = Said(
        # A SavedModel's name is its folder's.
        application="" if is_saved_model(source) else str(wrapped.name),
        labels=loaded.labels,
        file=Path(source) if Path(source).is_file() else None,
        notes=loaded.notes,
        is_converted_here=True,
    )
    # What the person says of pixels may be of no such model; conversion takes a minute.
    input_pixels(input_specs(wrapped), said, picture or PictureOptions())
    if calibration is not None:
        converter.write_examples(calibration(wrapped))
    say("Converting")
    frozen = _freeze(wrapped, quantization)
    frozen.check_quantization(quantization)
    converter.write_model(frozen)
    # What converting takes comes on top of what is still held, Keras's weights among it.
    del loaded, wrapped, calibration, frozen
    data = converter.convert(quantization=quantization)
    # A loop's result may have a shape that only running tells.
    tflite = read_tflite(fix_shapes(data, name=name), name=name)
    return LoadedTflite(
        tflite=tflite,
        name=name,
        quantization=quantization,
        weights=trained,
        facts=find_facts(tflite, said, picture),
        wrapped=operations,
    )


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
    """Leave the command its own words.

    Keras prints a download of weights, and warns of shapes left open, which loading fixes.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
