"""Files and pictures -> a model's inputs, one sample or several, and samples -> requests.

A sample is one answer's worth: of a model whose pictures come in batches of eight, one picture. A
request is what goes to the boards at once: that model's next eight samples.
"""

from __future__ import annotations

import struct
import tokenize
import wave
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from broker_config.errors import EdgePartitionError
from edge_partition.pixels import (
    PixelsError,
    apply_pixels,
    picture_layout,
    quantize,
)
from edge_partition.read_sound import SoundError, sound_windows
from edge_partition.read_table import TableError, table_samples
from edge_partition.resize_picture import picture_of_array, resize_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from broker_config.manifest import TensorSpec

#: What numpy and Pillow raise on damaged files, apart from what says so by itself.
_UNREADABLE = (
    OSError, ValueError, EOFError, MemoryError, SyntaxError, NotImplementedError, TypeError,
    IndexError, KeyError, OverflowError, struct.error, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error, wave.Error, UnidentifiedImageError,
    Image.DecompressionBombError,
)  # fmt: skip
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
INPUT_SUFFIXES = IMAGE_SUFFIXES | {".npy", ".npz", ".wav", ".csv"}
_KINDS = "image, .npy, .npz, .wav or .csv file"


class InputFileError(EdgePartitionError):
    """A file is no input for this model.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}")


def expand_inputs(paths: Iterable[Path]) -> list[Path]:
    """Return the files that ``paths`` name, folders replaced by what they hold, sorted.

    Raises:
        InputFileError: A path is not there, or a folder holds no input.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in INPUT_SUFFIXES)
            if not found:
                raise InputFileError(path, f"holds no {_KINDS}.")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputFileError(path, f"no such file; expected an {_KINDS}.")
    return files


def load_input(path: Path, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Read one file as one request: the inputs ``specs`` of a model, exactly.

    Raises:
        InputFileError: As :func:`load_samples`, or the file holds more than one request.
    """
    requests = batches(load_samples(path, specs), specs)
    inputs, _ = next(requests)
    if next(requests, None) is not None:
        raise InputFileError(path, "holds several inputs; expected one.")
    return inputs


def load_samples(
    path: Path, specs: Sequence[TensorSpec], *, on_note: Callable[[str], None] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Read one file as any number of samples.

    A picture is one, through the input's pixels. ``.npy`` holds the only input, ``.npz`` one array
    an input by name, as they are: one sample, with or without its batch of one, or several stacked
    along the first dimension. Floats for an integer input are quantized by its scale. A ``.wav``
    is cut into windows, a ``.csv`` has a sample a row (:mod:`~edge_partition.read_sound`,
    :mod:`~edge_partition.read_table`).

    Args:
        path: The file.
        specs: The model's inputs.
        on_note: Called with sentences for people, such as that a sample rate is not known.

    Yields:
        By input name arrays of its dtype and shape; the leading dimension is 1 where requests are
        made of several samples (:func:`batch_size`).

    Raises:
        InputFileError: The file can't be read, or holds another shape or dtype than expected.
    """
    samples = sample_specs(specs)
    suffix = path.suffix.lower()
    try:
        if suffix in {".npy", ".npz"}:
            yield from _load_arrays(path, samples)
            return
        spec = _only(path, samples)
        if suffix == ".wav":
            found: Iterable[np.ndarray] = sound_windows(path, spec, on_note=on_note)
        elif suffix == ".csv":
            found = table_samples(path, spec)
        else:
            found = [_load_picture(path, spec)]
        for array in found:
            yield {spec.name: array}
    except (PixelsError, SoundError, TableError) as error:
        raise InputFileError(path, str(error)) from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputFileError(path, f"can't be read: {reason}") from None


def batch_size(specs: Sequence[TensorSpec]) -> int:
    """Return how many samples make a request: above 1 where pictures come in larger batches."""
    leading = {spec.shape[0] if spec.shape else 0 for spec in specs}
    layouts = [picture_layout(spec) for spec in specs]
    sizes = {layout.batch for layout in layouts if layout is not None}
    return max(1, *leading) if len(leading) == 1 and sizes == leading else 1


def sample_specs(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the inputs of one sample: ``specs`` with a batch of one."""
    if batch_size(specs) == 1:
        return tuple(specs)
    return tuple(replace(spec, shape=(1, *spec.shape[1:])) for spec in specs)


def batches(
    samples: Iterable[dict[str, np.ndarray]], specs: Sequence[TensorSpec]
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Fill requests with samples.

    Yields:
        A request's inputs, of exactly ``specs``' shapes, and how many samples it is made of. The
        last request repeats its last sample until it is full.
    """
    size = batch_size(specs)
    waiting: list[dict[str, np.ndarray]] = []
    for sample in samples:
        waiting.append(sample)
        if len(waiting) == size:
            yield _joined(waiting, size)
            waiting = []
    if waiting:
        yield _joined(waiting, size)


def _joined(samples: list[dict[str, np.ndarray]], size: int) -> tuple[dict[str, np.ndarray], int]:
    if size == 1:
        return samples[0], 1
    full = samples + [samples[-1]] * (size - len(samples))
    return {name: np.concatenate([one[name] for one in full]) for name in full[0]}, len(samples)


def split_outputs(
    outputs: Mapping[str, np.ndarray], count: int, specs: Sequence[TensorSpec]
) -> list[dict[str, np.ndarray]]:
    """Return a request's outputs sample by sample, what answers repeated samples left out.

    Args:
        outputs: By name.
        count: How many samples the request was made of, as :func:`batches` says.
        specs: The model's inputs.

    Returns:
        ``count`` of them where every output has the batch's leading dimension, which is 1 in each;
        else the outputs as they are, once.
    """
    size = batch_size(specs)
    if size == 1 or any(array.shape[:1] != (size,) for array in outputs.values()):
        return [dict(outputs)]
    return [
        {name: array[place : place + 1] for name, array in outputs.items()}
        for place in range(count)
    ]


def as_picture(value: Any, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Return a picture as people have it as one sample of a model with one input.

    Args:
        value: A path, a Pillow image, or an array ``(height, width)`` or ``(height, width, 1|3|4)``
            of any size: uint8, or floats from 0 to 255.
        specs: The model's inputs.

    Returns:
        As :func:`load_samples` gives.

    Raises:
        InputFileError: The path's file is no picture.
        PixelsError: The model has several inputs or takes no picture, or the value is none.
    """
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise PixelsError(
            f"One picture given; the model has {len(specs)} inputs ({names}). Give a dict with an "
            "array for each."
        )
    (spec,) = sample_specs(specs)
    if isinstance(value, str | Path):
        (sample,) = load_samples(Path(value), specs)
        return sample
    if isinstance(value, Image.Image):
        return {spec.name: apply_pixels(resize_picture(value, spec), spec)}
    return {spec.name: apply_pixels(picture_of_array(np.asarray(value), spec), spec)}


def _load_picture(path: Path, spec: TensorSpec) -> np.ndarray:
    with Image.open(path) as image:
        return apply_pixels(resize_picture(image, spec), spec)


def _load_arrays(path: Path, specs: Sequence[TensorSpec]) -> Iterator[dict[str, np.ndarray]]:
    arrays = _read_arrays(path, specs)
    count = _stacked(arrays, specs)
    for place in range(count or 1):
        sample = {}
        for spec in specs:
            array = arrays[spec.name]
            if count:
                batched = array.ndim == len(spec.shape) and spec.shape[:1] == (1,)
                array = array[place : place + 1] if batched else array[place]
            sample[spec.name] = _fitted(path, array, spec)
        yield sample


def _read_arrays(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Any]:
    # allow_pickle is off by default, and stays off: a pickle is a program.
    if path.suffix.lower() == ".npy":
        return {_only(path, specs).name: np.load(path)}
    with np.load(path) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputFileError(path, "is no .npz archive, whatever its name.")
        missing = [spec.name for spec in specs if spec.name not in archive]
        if missing:
            names = ", ".join(spec.name for spec in specs)
            raise InputFileError(path, f"lacks an array; the model has inputs {names}.")
        return {spec.name: archive[spec.name] for spec in specs}


def _stacked(arrays: dict[str, Any], specs: Sequence[TensorSpec]) -> int:
    """Return how many samples are stacked along the first dimension; 0 where it is one sample."""
    counts = set()
    for spec in specs:
        array = arrays[spec.name]
        if not isinstance(array, np.ndarray) or not array.ndim:
            return 0
        one = spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
        stacked = array.shape[1:] in {one, spec.shape} or (
            # Of another shape, and yet several: the error then says what one of them has.
            array.ndim == len(spec.shape) and spec.shape[:1] == (1,)
        )
        if array.shape == spec.shape or not stacked:
            return 0
        counts.add(len(array))
    return counts.pop() if len(counts) == 1 else 0


def _fitted(path: Path, given: Any, spec: TensorSpec) -> np.ndarray:
    """Return an array as ``spec``: with its batch of one, and floats quantized."""
    if not isinstance(given, np.ndarray | np.generic):  # A raw member of an archive.
        raise InputFileError(path, f"holds no array for input {spec.name}, whatever its name.")
    array: np.ndarray[Any, Any] = np.asarray(given)
    if spec.shape[:1] == (1,) and array.shape == spec.shape[1:]:
        array = array[None]
    if spec.quantized is not None and array.shape == spec.shape and array.dtype.kind == "f":
        array = quantize(array, spec.dtype, spec.quantized)
    if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
        hint = ""
        if array.shape == spec.shape:
            hint = f" `array.astype({spec.dtype!r})` makes it."
        raise InputFileError(
            path,
            f"holds {array.dtype}{list(array.shape)} for input {spec.name}; "
            f"expected {spec.dtype}{list(spec.shape)}.{hint}",
        )
    return array


def _only(path: Path, specs: Sequence[TensorSpec]) -> TensorSpec:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise InputFileError(path, f"the model has {len(specs)} inputs ({names}); use an .npz.")
    return specs[0]
