"""Convert the inputs that a program passes to a pipeline to arrays for the model.

The program calls a :class:`~edge_partition.client.pipeline.Pipeline`. An array of the input's shape
and dtype is used unchanged, without a copy. Other arrays are reshaped and cast like arrays from
files (:mod:`~edge_partition.inputs.fit_array`). Pictures are converted according to the input's
``pixels``; only pictures need Pillow.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edge_core.errors import PayloadError
from edge_partition.inputs.batches import batches
from edge_partition.inputs.fit_array import find_pictures, fit_array
from edge_partition.inputs.picture_layout import picture_layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from edge_core.contract.manifest import Manifest, TensorSpec

    #: One input: an array that fits, a file's path, or a picture.
    OneInput: TypeAlias = "np.ndarray | str | os.PathLike[str] | Image.Image"
    Inputs: TypeAlias = "OneInput | Sequence[OneInput] | Mapping[str, OneInput]"


@dataclass(frozen=True)
class TakenInputs:
    """The inputs of one request.

    Attributes:
        arrays: Arrays by input name, of the input's shape and dtype. If the array of an input is
            missing, the later encoding of the arrays raises an error.
        is_sample: Whether the arrays are one sample, repeated to fill the model's batch.
        picture_size: Width and height, in pixels, of the original picture for a detection model.
            None for other models, and if the inputs contain no picture.
    """

    arrays: dict[str, np.ndarray]
    is_sample: bool = False
    picture_size: tuple[int, int] | None = None


def take_inputs(manifest: Manifest, inputs: Any) -> TakenInputs:
    """Return a request's inputs as arrays by input name.

    Args:
        manifest: The deployment's manifest.
        inputs: For a model with one input, a value that is an array, a path or a Pillow image. For
            a model with several inputs, a list or tuple of such values in the order of the inputs,
            a dict of such values by input name, or the path of an ``.npz`` file.

    Raises:
        PayloadError: The number of inputs, an input's name, or an array's shape or dtype is wrong.
        InputFileError: A file cannot be read, or does not fit the model's inputs.
        PixelsError: A picture cannot be converted to the input.
    """
    specs = manifest.inputs
    if isinstance(inputs, np.ndarray) and len(specs) == 1 and _is_exact(inputs, specs[0]):
        return TakenInputs({specs[0].name: inputs})
    if isinstance(inputs, str | os.PathLike):
        arrays = _read_file(inputs, specs)
        return TakenInputs(arrays, is_sample=True, picture_size=_size(manifest, inputs))
    arrays = {}
    picture = None
    is_sample = False
    named = _by_name(specs, inputs)
    for spec in specs:
        if spec.name not in named:
            continue  # Encoding the arrays raises an error.
        value = named[spec.name]
        if not isinstance(value, np.ndarray) and _is_file_or_image(value):
            arrays[spec.name] = _from_picture(value, spec)
            is_sample, picture = True, value
            continue
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
        arrays[spec.name], of_sample, found = _from_array(array, spec)
        is_sample = is_sample or of_sample
        picture = found if found is not None else picture
    size = None if picture is None else _size(manifest, picture)
    return TakenInputs(arrays, is_sample=is_sample, picture_size=size)


def _by_name(specs: Sequence[TensorSpec], inputs: Any) -> Mapping[str, Any]:
    names = [spec.name for spec in specs]
    named: Mapping[str, Any]
    if isinstance(inputs, dict):
        named = inputs
    elif isinstance(inputs, list | tuple):
        if len(inputs) != len(names):
            raise PayloadError(
                f"Got {len(inputs)} arrays; expected one for each of the inputs {names}."
            )
        named = dict(zip(names, inputs, strict=True))
    else:
        if len(names) != 1:
            raise PayloadError(f"Got one array; expected one for each of the inputs {names}.")
        named = {names[0]: inputs}
    unknown = set(named) - set(names)
    if unknown:
        missing = ", ".join(map(repr, sorted(unknown)))
        raise PayloadError(f"The model has no input {missing}; its inputs are {names}.")
    return named


def _is_file_or_image(value: Any) -> bool:
    # A Pillow image exists only if Pillow is imported; importing Pillow here would take time.
    pillow = sys.modules.get("PIL.Image")
    return isinstance(value, str | os.PathLike) or (
        pillow is not None and isinstance(value, pillow.Image)
    )


def _is_exact(array: np.ndarray, spec: TensorSpec) -> bool:
    return array.shape == spec.shape and array.dtype == spec.dtype


def _from_array(array: np.ndarray, spec: TensorSpec) -> tuple[np.ndarray, bool, np.ndarray | None]:
    """Convert an array from the user to an input's shape and dtype.

    Returns:
        Three values: the array for the input; whether the user's array is one sample; and the
        picture in the user's array, or None if the array does not contain exactly one picture.
    """
    if _is_exact(array, spec):
        return array, False, None
    pictures = find_pictures(array, spec)
    layout = picture_layout(spec)
    batch = layout.batch if layout is not None else 0
    if pictures is None:
        if batch <= 1 or array.size * batch != math.prod(spec.shape):
            return fit_array(array, spec), False, None
        one = replace(spec, shape=(1, *spec.shape[1:]))
        return np.repeat(fit_array(array, one), batch, axis=0), True, None
    if len(pictures) == 1:
        return _from_picture(pictures[0], spec), True, pictures[0]
    if len(pictures) != batch:
        of_batch = f", or {batch}" if batch > 1 else ""
        raise PayloadError(
            f"Got {len(pictures)} pictures for input {spec.name}; expected one{of_batch}."
        )
    from edge_partition.inputs.load_inputs import as_picture  # noqa: PLC0415 -- Pillow

    made = [as_picture(picture, (spec,))[spec.name] for picture in pictures]
    return np.concatenate(made), False, None


def _from_picture(value: Any, spec: TensorSpec) -> np.ndarray:
    if isinstance(value, str | os.PathLike):
        return _read_file(value, (spec,))[spec.name]
    from edge_partition.inputs.load_inputs import as_picture  # noqa: PLC0415 -- Pillow

    ((filled, _),) = batches([as_picture(value, (spec,))], (spec,))
    return filled[spec.name]


def _read_file(path: str | os.PathLike[str], specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    from edge_partition.inputs.load_inputs import load_input  # noqa: PLC0415 -- Pillow

    return load_input(Path(path), specs)


def _size(manifest: Manifest, picture: Any) -> tuple[int, int] | None:
    """Return a picture's width and height, in pixels; None if the model is no object detector."""
    if not manifest.model.detections:
        return None
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0]
    from edge_partition.inputs.picture_size import file_picture_size, picture_size  # noqa: PLC0415 -- Pillow

    if isinstance(picture, str | os.PathLike):
        return file_picture_size(Path(picture))
    return picture_size(picture)
