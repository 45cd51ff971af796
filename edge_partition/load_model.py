"""MODEL argument -> the one ``.tflite`` that everything after works on."""

from __future__ import annotations

import contextlib
import gc
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_config.errors import EdgePartitionError
from edge_partition.fix_shapes import fix_shapes
from edge_partition.read_labels import read_labels
from edge_partition.read_tflite import InvalidModelError, TfliteModel, map_file, read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edge_partition.wrap_operations import WrappedOperation

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
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
        labels: Class names; may be empty.
        wrapped: The Keras operations that were no layers and now are.
    """

    tflite: TfliteModel
    name: str
    quantization: str
    weights: str
    labels: tuple[str, ...] = ()
    wrapped: tuple[WrappedOperation, ...] = ()


def load_model(
    source: str,
    *,
    weights: str | None = None,
    input_shape: Sequence[int] | None = None,
    quantization: str = "none",
    calibration: Callable[[Any], Iterable[list[Any]]] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> LoadedTflite:
    """Load, wrap and convert a model; a ``.tflite`` is read as it is.

    Args:
        source: Keras application, ``.keras``, ``.h5`` or ``.tflite`` file, or
            ``package.module:function``.
        weights: ``seeded`` or a weights file, for Keras models.
        input_shape: Fixes what the model leaves open, without the batch dimension.
        quantization: One of :data:`QUANTIZATIONS`.
        calibration: For ``int8``: given the Keras model, yields its inputs.
        on_step: Called with what is being done.

    Raises:
        EdgePartitionError: Its leaves say what was wrong with the model or the options.
    """
    say = on_step or (lambda _step: None)
    if source.endswith(".tflite"):
        if weights is not None or quantization != "none" or calibration is not None:
            raise ModelArgumentError(
                f"{source} is converted already: --weights, --quantize and --calibration go with "
                "Keras models only. Leave them out."
            )
        say("Reading")
        path = Path(source)
        try:
            tflite = _read_file(path, input_shape)
        except OSError as error:
            raise ModelArgumentError(
                f"{source} can't be read: {error.strerror or error}; expected a .tflite file."
            ) from None
        except InvalidModelError as error:
            raise ModelArgumentError(f"{source}: {error}") from None
        return LoadedTflite(
            tflite=tflite,
            name=path.stem,
            quantization=AS_GIVEN,
            weights="trained",
            labels=read_labels(path),
        )

    if quantization not in QUANTIZATIONS:
        raise ModelArgumentError(
            f"Quantization {quantization!r} is not known; expected {', '.join(QUANTIZATIONS)}."
        )
    if (quantization == "int8") != (calibration is not None):
        raise ModelArgumentError(
            "int8 needs sample inputs to set its scales by, and only int8 does: "
            "--quantize int8 --calibration IMAGES."
        )
    with _quiet_keras():
        return _load_keras(
            source,
            weights=weights,
            input_shape=input_shape,
            quantization=quantization,
            calibration=calibration,
            say=say,
        )


def _read_file(path: Path, input_shape: Sequence[int] | None) -> TfliteModel:
    # Mapped, not read: bytes would stay in memory.
    data = fix_shapes(map_file(path), name=path.stem, input_shape=input_shape)
    tflite = read_tflite(data, name=path.stem)
    flex = sorted(kind for kind in tflite.custom_operators if kind.startswith("Flex"))
    if flex:
        raise InvalidModelError(
            f"{path.stem} has operators that only TensorFlow runs, which no board has: "
            f"{', '.join(flex)}. Convert it with TFLite's builtin operators alone."
        )
    return tflite


def _load_keras(
    source: str,
    *,
    weights: str | None,
    input_shape: Sequence[int] | None,
    quantization: str,
    calibration: Callable[[Any], Iterable[list[Any]]] | None,
    say: Callable[[str], None],
) -> LoadedTflite:
    say("Starting TensorFlow")
    # It takes seconds to import, and planning or running needs none of it.
    from edge_partition.convert_tflite import convert_tflite, freeze_model  # noqa: PLC0415
    from edge_partition.keras_model import load_keras_model  # noqa: PLC0415
    from edge_partition.wrap_operations import (  # noqa: PLC0415
        wrap_operations,
        wrapped_operations,
    )

    say("Loading")
    loaded = load_keras_model(
        source, weights=weights, input_shape=tuple(input_shape) if input_shape else None
    )
    say("Wrapping operations")
    wrapped = wrap_operations(loaded.model)
    name, trained, labels = loaded.name, loaded.weights, loaded.labels
    operations = wrapped_operations(wrapped)
    examples = None if calibration is None else list(calibration(wrapped))
    say("Converting")
    frozen = freeze_model(wrapped)
    # What converting takes comes on top of what is still held, Keras's weights among it.
    del loaded, wrapped, calibration
    gc.collect()
    data = convert_tflite(frozen, quantization=quantization, calibration=examples)
    return LoadedTflite(
        tflite=read_tflite(data, name=name),
        name=name,
        quantization=quantization,
        weights=trained,
        labels=labels,
        wrapped=operations,
    )


@contextlib.contextmanager
def _quiet_keras() -> Iterator[None]:
    """Leave the command its own words.

    Keras prints a download of weights, and warns of shapes left open, which loading fixes.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
