"""Files -> inputs: images resized to what the model takes, ``.npy`` and ``.npz`` as they are."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from broker_config.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from broker_config.manifest import TensorSpec

_IMAGE_RANK = 4
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: A picture that decompresses to more is refused before it is decompressed.
_MAX_PIXELS = 100_000_000
#: What numpy and Pillow raise on damaged files, apart from what says so by itself.
_UNREADABLE = (
    OSError, ValueError, EOFError, MemoryError, SyntaxError, NotImplementedError, TypeError,
    IndexError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    UnidentifiedImageError, Image.DecompressionBombError,
)  # fmt: skip
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


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
            found = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in IMAGE_SUFFIXES | {".npy", ".npz"}
            )
            if not found:
                raise InputFileError(path, "holds no image, .npy or .npz file.")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputFileError(path, "no such file; expected an image, .npy or .npz file.")
    return files


def load_input(path: Path, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Read one file as the inputs ``specs`` of a model.

    Images are converted to the model's channels, resized (bicubic) to its height and width and
    given as pixels from 0 to 255, batch of one. ``.npy`` holds the only input; ``.npz`` one array
    an input, by name.

    Raises:
        InputFileError: The file can't be read, or holds another shape or dtype than expected.
    """
    arrays = _read_arrays(path, specs)
    _check_arrays(path, arrays, specs)
    return arrays


def load_samples(path: Path, specs: Sequence[TensorSpec]) -> Iterator[dict[str, np.ndarray]]:
    """Read one file as any number of inputs, each as :func:`load_input` gives it.

    ``.npy`` and ``.npz`` may hold several, stacked along the first dimension, where the model has
    a batch of one.

    Raises:
        InputFileError: As :func:`load_input`, or the arrays of an ``.npz`` are of unequal length.
    """
    arrays = _read_arrays(path, specs)
    counts = {
        len(array) if isinstance(array, np.ndarray) and array.ndim else 0
        for array in arrays.values()
    }
    count = max(counts, default=0)
    if len(counts) != 1 or count < 2 or any(spec.shape[:1] != (1,) for spec in specs):  # noqa: PLR2004
        _check_arrays(path, arrays, specs)
        yield arrays
        return
    for place in range(count):
        sample = {name: array[place : place + 1] for name, array in arrays.items()}
        _check_arrays(path, sample, specs)
        yield sample


def _read_arrays(path: Path, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            # allow_pickle is off by default, and stays off: a pickle is a program.
            with np.load(path) as archive:
                arrays = {spec.name: archive[spec.name] for spec in specs}
        elif suffix == ".npy":
            arrays = {_only(path, specs).name: np.load(path)}
        else:
            spec = _only(path, specs)
            arrays = {spec.name: _load_image(path, spec)}
    except KeyError:
        names = ", ".join(spec.name for spec in specs)
        raise InputFileError(path, f"lacks an array; the model has inputs {names}.") from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputFileError(path, f"can't be read: {reason}") from None
    return arrays


def _check_arrays(path: Path, arrays: dict[str, np.ndarray], specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        array = arrays[spec.name]
        if not isinstance(array, np.ndarray):  # An archive by another name, or a raw member.
            raise InputFileError(path, f"holds no array for input {spec.name}, whatever its name.")
        if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
            raise InputFileError(
                path,
                f"holds {array.dtype}{list(array.shape)} for input {spec.name}; "
                f"expected {spec.dtype}{list(spec.shape)}.",
            )


def _only(path: Path, specs: Sequence[TensorSpec]) -> TensorSpec:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise InputFileError(path, f"the model has {len(specs)} inputs ({names}); use an .npz.")
    return specs[0]


def _load_image(path: Path, spec: TensorSpec) -> np.ndarray:
    channels = spec.shape[-1] if len(spec.shape) == _IMAGE_RANK else 0
    if channels not in _MODES or spec.shape[0] != 1:
        raise InputFileError(
            path, f"an image is no {spec.dtype}{list(spec.shape)}, which {spec.name} takes."
        )
    _, height, width, _ = spec.shape
    with Image.open(path) as image:
        if image.width * image.height > _MAX_PIXELS:
            raise InputFileError(
                path, f"has {image.width}x{image.height} pixels; expected {_MAX_PIXELS:,} at most."
            )
        pixels = np.asarray(
            _eight_bits(path, image)
            .convert(_MODES[channels])
            .resize((width, height), Image.Resampling.BICUBIC)
        )
    if spec.dtype == "int8":
        # Full-integer image models take pixels shifted to their signed range.
        pixels = pixels.astype(np.int16) - 128
    return pixels.reshape(spec.shape).astype(spec.dtype)


def _eight_bits(path: Path, image: Image.Image) -> Image.Image:
    """Return ``image`` with 8 bits a channel; Pillow itself clips wider ones to white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise InputFileError(
            path, "has 32 bits a pixel, of no fixed range; save it with 8 or 16, or as .npy."
        )
    return image
