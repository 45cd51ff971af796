"""Input specifications and files for the tests of inputs."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_core.contract.manifest import TensorSpec
from edge_partition.inputs.load_inputs import InputFileError, load_input

if TYPE_CHECKING:
    from pathlib import Path

RGB = TensorSpec("image", "float32", (1, 4, 6, 3))
GRAY = TensorSpec("image", "float32", (1, 4, 6, 1))
BATCH = TensorSpec("image", "float32", (3, 4, 6, 3))
VECTOR = TensorSpec("x", "float32", (2, 3))
INDEX = TensorSpec("i", "int64", ())


def pixels(channels: int) -> np.ndarray:
    """Return a picture of height 4 and width 6, of all different values."""
    values = np.arange(4 * 6 * channels, dtype=np.uint8) * 3
    return values.reshape((4, 6, channels) if channels > 1 else (4, 6))


def write_wav(
    path: Path, samples: np.ndarray, *, rate_hz: int = 16_000, channels: int = 1, width: int = 2
) -> None:
    """Write PCM samples as a ``.wav`` file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


def error_of(path: Path, *specs: TensorSpec) -> str:
    """Return the one-line message with which ``load_input`` refuses a file."""
    with pytest.raises(InputFileError) as caught:
        load_input(path, specs)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)
