"""Read files and pictures as samples or requests for a model.

:mod:`~edge_partition.inputs.batches` says what a sample and a request are.
"""

from __future__ import annotations

import re
import struct
import tokenize
import warnings
import wave
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from edge_core.errors import EdgePartitionError
from edge_partition.inputs.batches import batches, sample_specs
from edge_partition.inputs.fit_array import ArrayError, fit_array, range_note, split_stack
from edge_partition.inputs.pixels import PixelsError, apply_pixels
from edge_partition.inputs.read_sound import SoundError, sound_windows
from edge_partition.inputs.read_table import TableError, table_samples
from edge_partition.inputs.resize_picture import MAX_PIXELS, picture_of_array, resize_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from edge_core.contract.manifest import TensorSpec

#: Exceptions that numpy, Pillow and ``wave`` raise on damaged files.
_UNREADABLE = (
    OSError, ValueError, EOFError, MemoryError, SyntaxError, NotImplementedError, TypeError,
    IndexError, KeyError, OverflowError, struct.error, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error, wave.Error, UnidentifiedImageError,
)  # fmt: skip
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
INPUT_SUFFIXES = IMAGE_SUFFIXES | {".npy", ".npz", ".wav", ".csv"}
#: Largest number of array names in an error message.
_NAMES_SHOWN = 8
_KINDS = "image, .npy, .npz, .wav or .csv file"


class InputFileError(EdgePartitionError):
    """A file cannot be read, or does not fit the model's inputs.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}")


def expand_inputs(paths: Iterable[Path]) -> list[Path]:
    """Return ``paths`` with each folder replaced by the sorted paths of the folder's input files.

    Files in subfolders are included, such as ``cat/01.jpg`` in a data set with one folder for each
    class. Hidden files are left out, such as the files ``._cat.jpg`` that macOS adds.

    Raises:
        InputFileError: A path does not exist, or a folder contains no input file.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in INPUT_SUFFIXES
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
                and file.is_file()
            )
            if not found:
                raise InputFileError(path, f"the folder holds no {_KINDS}.")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputFileError(path, f"no such file; expected an {_KINDS}.")
    return files


def load_input(path: Path, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Read one file as one request of a model.

    Args:
        path: The file.
        specs: The model's inputs.

    Returns:
        Arrays by input name, of exactly the dtypes and shapes of ``specs``.

    Raises:
        InputFileError: The file cannot be read, has a wrong shape or dtype, or contains more than
            one request.
    """
    requests = batches(load_samples(path, specs), specs)
    inputs, _ = next(requests)
    if next(requests, None) is not None:
        raise InputFileError(
            path,
            "holds inputs for several inferences; expected one. Give a file for one inference.",
        )
    return inputs


def load_samples(
    path: Path, specs: Sequence[TensorSpec], *, on_note: Callable[[str], None] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Read one file as one or more samples.

    - A picture is one sample. Its values are converted according to the input's ``pixels``.
    - A ``.npy`` file holds an array for a model with one input. A ``.npz`` file holds an array for
      each input, by name. An array is one sample, with or without a batch dimension of size 1. Or
      an array is several samples, stacked along the first dimension.
    - A ``.wav`` file is divided into windows (:mod:`~edge_partition.inputs.read_sound`); each
      window is a sample.
    - In a ``.csv`` file, each row or the whole table is a sample
      (:mod:`~edge_partition.inputs.read_table`).

    If an input takes pictures, a uint8 array for this input is a picture of any size. Floats for a
    quantized input are quantized. The values of all other arrays stay as they are, and their dtype
    is converted if no value is lost (:mod:`~edge_partition.inputs.fit_array`).

    Args:
        path: The file.
        specs: The model's inputs.
        on_note: Called with each sentence for the user, for example about an unknown sample rate.

    Yields:
        For each sample, arrays by input name, of the inputs' dtypes and shapes. If the model takes
        several samples in a request (:func:`~edge_partition.inputs.batches.batch_size`), the
        leading dimension of each array is 1.

    Raises:
        InputFileError: The file cannot be read, or has a wrong shape or dtype.
    """
    samples = sample_specs(specs)
    suffix = path.suffix.lower()
    try:
        if suffix in {".npy", ".npz"}:
            yield from _load_arrays(path, samples, on_note)
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
    except ArrayError as error:
        reason = f"holds {error.found} for input {error.spec.name}; {error.rest}"
        raise InputFileError(path, reason) from None
    except (PixelsError, SoundError, TableError) as error:
        raise InputFileError(path, str(error)) from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputFileError(path, f"can't be read: {reason}") from None


def as_picture(value: Any, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Return a picture as one sample of a model with one input.

    Args:
        value: A path, a Pillow image or an array. An array has the shape ``(height, width)`` or
            ``(height, width, 1|3|4)``, with any height and width. The values are uint8, or floats
            from 0 to 255.
        specs: The model's inputs.

    Returns:
        A dict from the input's name to the array, in the form that :func:`load_samples` yields.

    Raises:
        InputFileError: The file cannot be read, or contains several samples.
        PixelsError: The model has several inputs or takes no pictures, or ``value`` is not a
            picture.
    """
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise PixelsError(
            f"Got one picture, but the model has {len(specs)} inputs ({names}). Give a dict with "
            "an array for each input."
        )
    (spec,) = sample_specs(specs)
    if isinstance(value, str | Path):
        samples = load_samples(Path(value), specs)
        sample = next(samples)
        if next(samples, None) is not None:
            raise InputFileError(
                Path(value), "holds several samples; expected one. Give a file with one sample."
            )
        return sample
    if isinstance(value, Image.Image):
        return {spec.name: apply_pixels(resize_picture(value, spec), spec)}
    return {spec.name: apply_pixels(picture_of_array(np.asarray(value), spec), spec)}


def _load_picture(path: Path, spec: TensorSpec) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # resize_picture checks the number of pixels against its own limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except Image.DecompressionBombError as error:
        size = re.search(r"\((\d+) pixels\)", str(error))
        count = f"{int(size[1]):,}" if size else "too many"
        raise PixelsError(
            f"The picture has {count} pixels; expected at most {MAX_PIXELS:,}. Give a smaller "
            "picture."
        ) from None
    with image:
        return apply_pixels(resize_picture(image, spec), spec)


def _load_arrays(
    path: Path, specs: Sequence[TensorSpec], on_note: Callable[[str], None] | None
) -> Iterator[dict[str, np.ndarray]]:
    arrays = _read_arrays(path, specs)
    stacks = {}
    for spec in specs:
        given = arrays[spec.name]
        if not isinstance(given, np.ndarray | np.generic):  # Bytes: not an array file.
            raise InputFileError(
                path,
                f"the entry for input {spec.name} is not an array. Write the file with "
                "numpy.savez.",
            )
        stacks[spec.name] = split_stack(np.asarray(given), spec)
    counts = {name: len(items) for name, (items, _) in stacks.items()}
    count = max(counts.values())
    if min(counts.values()) != count:
        for spec in specs:  # An error about a sample's shape takes precedence.
            _as_input(*_item(stacks, spec, 0), spec)
        first, *others = counts.items()
        rest = ", ".join(f"input {name} has {number}" for name, number in others)
        raise InputFileError(
            path,
            f"input {first[0]} has {first[1]} samples, {rest}; expected the same number for "
            "each input.",
        )
    noted = on_note is None
    for place in range(count):
        for spec in specs:
            item, is_picture = _item(stacks, spec, place)
            note = "" if noted or is_picture else range_note(item, spec)
            if note and on_note is not None:
                on_note(f"{path}: {note}")
                noted = True
        yield {spec.name: _as_input(*_item(stacks, spec, place), spec) for spec in specs}


def _item(
    stacks: Mapping[str, tuple[list[np.ndarray], bool]], spec: TensorSpec, place: int
) -> tuple[np.ndarray, bool]:
    items, is_picture = stacks[spec.name]
    return items[place], is_picture


def _as_input(item: np.ndarray, is_picture: bool, spec: TensorSpec) -> np.ndarray:
    if is_picture:
        return apply_pixels(picture_of_array(item, spec), spec)
    return fit_array(item, spec)


def _read_arrays(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Any]:
    # allow_pickle stays off (the default), because a pickle can run any code.
    if path.suffix.lower() == ".npy":
        return {_only(path, specs).name: np.load(path)}
    with np.load(path) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputFileError(path, "is not an .npz archive. Write the file with numpy.savez.")
        missing = [spec.name for spec in specs if spec.name not in archive]
        if missing and len(specs) == len(archive.files) == 1:
            # np.savez(path, array) names the array arr_0. One array and one input belong together.
            return {specs[0].name: archive[archive.files[0]]}
        if missing:
            names = ", ".join(spec.name for spec in specs)
            held = ", ".join(archive.files[:_NAMES_SHOWN]) or "nothing"
            more = ", ..." if len(archive.files) > _NAMES_SHOWN else ""
            raise InputFileError(
                path,
                f"lacks an array for input {', '.join(missing)}. The archive holds {held}{more}; "
                f"the model has the inputs {names}.",
            )
        return {spec.name: archive[spec.name] for spec in specs}


def _only(path: Path, specs: Sequence[TensorSpec]) -> TensorSpec:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise InputFileError(
            path,
            f"the model has {len(specs)} inputs ({names}); give an .npz file with an array for "
            "each.",
        )
    return specs[0]
