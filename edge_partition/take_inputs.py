"""What people give to a :class:`~edge_partition.pipeline.Pipeline` -> arrays by input name.

An array that already is what the model takes goes in as it is, and costs a comparison of shapes.
Pictures go through the input's pixels; Pillow is imported only for them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from broker_config.errors import PayloadError
from edge_partition.pixels import picture_layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from broker_config.manifest import Manifest, TensorSpec

    #: One input: an array of exactly its shape and dtype, a file's path, or a picture.
    OneInput: TypeAlias = "np.ndarray | str | os.PathLike[str] | Image.Image"
    Inputs: TypeAlias = "OneInput | Sequence[OneInput] | Mapping[str, OneInput]"

_PICTURE_RANKS = (2, 3)
_FULL_RANK = 4


@dataclass(frozen=True)
class TakenInputs:
    """A request's inputs.

    Attributes:
        arrays: By input name; whether they fit is found when they are encoded.
        is_sample: Whether they are one sample, repeated where the model takes a larger batch.
        picture_size: Width and height in pixels of the picture that went in, for a model that
            finds boxes; None without a picture.
    """

    arrays: dict[str, np.ndarray]
    is_sample: bool = False
    picture_size: tuple[int, int] | None = None


def take_inputs(manifest: Manifest, inputs: Any) -> TakenInputs:
    """Return a request's inputs as arrays by name, whatever form they were given in.

    Raises:
        PayloadError: Another number of inputs, or a name that is none.
        InputFileError: A path's file is no input of the model.
        PixelsError: A picture that can't become the input.
    """
    specs = manifest.inputs
    if isinstance(inputs, np.ndarray) and len(specs) == 1 and not _is_picture(inputs, specs[0]):
        return TakenInputs({specs[0].name: inputs})
    if isinstance(inputs, str | os.PathLike):
        arrays = _read_file(inputs, specs)
        return TakenInputs(arrays, is_sample=True, picture_size=_size(manifest, inputs))
    arrays = {}
    picture = None
    named = _by_name(specs, inputs)
    for spec in specs:
        if spec.name not in named:
            continue  # Encoding says so.
        value = named[spec.name]
        if not isinstance(value, np.ndarray) and not _is_file_or_image(value):
            value = np.asarray(value)
        if _is_picture(value, spec):
            picture = value
            arrays[spec.name] = _from_picture(value, spec)
        else:
            arrays[spec.name] = value
    if picture is None:
        return TakenInputs(arrays)
    return TakenInputs(arrays, is_sample=True, picture_size=_size(manifest, picture))


def _by_name(specs: Sequence[TensorSpec], inputs: Any) -> Mapping[str, Any]:
    names = [spec.name for spec in specs]
    named: Mapping[str, Any]
    if isinstance(inputs, dict):
        named = inputs
    elif isinstance(inputs, list | tuple):
        if len(inputs) != len(names):
            raise PayloadError(f"{len(inputs)} arrays given; the model has inputs {names}.")
        named = dict(zip(names, inputs, strict=True))
    else:
        if len(names) != 1:
            raise PayloadError(f"One array given; the model has inputs {names}.")
        named = {names[0]: inputs}
    unknown = set(named) - set(names)
    if unknown:
        raise PayloadError(f"No input is called {sorted(unknown)}; the model has inputs {names}.")
    return named


def _is_file_or_image(value: Any) -> bool:
    # Who has a Pillow image has imported Pillow; nobody else need wait for it.
    pillow = sys.modules.get("PIL.Image")
    return isinstance(value, str | os.PathLike) or (
        pillow is not None and isinstance(value, pillow.Image)
    )


def _is_picture(value: Any, spec: TensorSpec) -> bool:
    """Return whether a value is to go through the input's pixels.

    Of arrays those that are shaped as a picture and not as the input, and pictures of exactly the
    size of an input that has no dimension for the batch.
    """
    if not isinstance(value, np.ndarray):
        return True
    if value.shape == spec.shape and value.dtype != np.uint8:
        return False
    if value.ndim not in _PICTURE_RANKS or (spec.pixels is None and len(spec.shape) < _FULL_RANK):
        return False
    layout = picture_layout(spec)
    if layout is None:
        return False
    return value.shape != spec.shape or (not layout.batch and spec.dtype != "uint8")


def _from_picture(value: Any, spec: TensorSpec) -> np.ndarray:
    if isinstance(value, str | os.PathLike):
        return _read_file(value, (spec,))[spec.name]
    from edge_partition.load_inputs import as_picture, batches  # noqa: PLC0415 -- Pillow

    ((filled, _),) = batches([as_picture(value, (spec,))], (spec,))
    return filled[spec.name]


def _read_file(path: str | os.PathLike[str], specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    from edge_partition.load_inputs import load_input  # noqa: PLC0415 -- Pillow

    return load_input(Path(path), specs)


def _size(manifest: Manifest, picture: Any) -> tuple[int, int] | None:
    """Return a picture's width and height where boxes will be found in it."""
    if not manifest.model.detections:
        return None
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0]
    from edge_partition.picture_size import file_picture_size, picture_size  # noqa: PLC0415 -- Pillow

    if isinstance(picture, str | os.PathLike):
        return file_picture_size(Path(picture))
    return picture_size(picture)
