"""Read ``.wav`` files, and divide the sound into windows as long as the model's input."""

from __future__ import annotations

import math
import shlex
import wave
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import EdgePartitionError
from edge_partition.inputs.pixels import quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_core.contract.manifest import TensorSpec

#: For each number of bytes per sample, the shift to the left that fills 32 bits.
_SHIFT_BY_BYTES = {1: 24, 2: 16, 3: 8, 4: 0}
_FULL_SCALE = 2.0**31


class SoundError(EdgePartitionError):
    """A sound does not fit the model's input; the message does not contain the file's name."""


def takes_sound(spec: TensorSpec) -> bool:
    """Return whether an input's shape and dtype fit sound.

    Exactly one dimension has a size above 1, and the dtype is float32, float16 or int16, or the
    input is quantized.
    """
    wide = [size for size in spec.shape if size > 1]
    is_wave = spec.dtype in {"float32", "float16", "int16"} or spec.quantized is not None
    return len(wide) == 1 and is_wave


def sound_windows(
    path: Path, spec: TensorSpec, *, on_note: Callable[[str], None] | None = None
) -> Iterator[np.ndarray[Any, Any]]:
    """Read a mono ``.wav`` file of 8, 16, 24 or 32 bits, and yield its windows in order.

    Args:
        path: The file.
        spec: The input. Its ``rate_hz`` must be the file's sample rate; 0 allows any rate.
        on_note: Called with a sentence for the user if the model's sample rate is unknown, and with
            another sentence if the last window is filled with zeros.

    Yields:
        Arrays of the dtype and shape of ``spec``. Floats go from -1 to 1; int16 values use the full
        range of int16; other integers are quantized. If the sound ends inside the last window, the
        window is filled with zeros.

    Raises:
        SoundError: The file is empty, damaged or not mono, or has an unsupported number of bits.
            Or the file's sample rate is not the model's sample rate. Or the input takes no sound.
        wave.Error: The file is not a PCM file.
        OSError: The file cannot be read.
    """
    if not takes_sound(spec):
        raise SoundError(
            f"input {spec.name} takes no sound: it is {spec.dtype}{list(spec.shape)}. Give the "
            "values that the model was trained on, such as a spectrogram, as .npy."
        )
    data, width, rate_hz = _read(path, spec)
    if not spec.rate_hz and on_note is not None:
        on_note(
            f"{path}: the model's sample rate is unknown; the file's {rate_hz} Hz are assumed to "
            "be right."
        )
    samples = _samples(data, width)
    if not len(samples):
        raise SoundError("holds no sound; expected at least one sample.")
    length = math.prod(spec.shape)
    missing = -len(samples) % length
    if missing and on_note is not None:
        on_note(
            f"{path}: the model takes windows of {length:,} samples; the file has "
            f"{len(samples):,} samples, so the last window ends with {missing:,} zeros."
        )
    padded = np.concatenate([samples, np.zeros(missing, np.int32)])
    for window in padded.reshape(-1, length):
        yield _as_input(window, spec).reshape(spec.shape)


def _read(path: Path, spec: TensorSpec) -> tuple[bytes, int, int]:
    """Return a file's PCM data, its bytes per sample, and its sample rate in Hz."""
    try:
        with wave.open(str(path), "rb") as sound:
            channels, width, count = sound.getnchannels(), sound.getsampwidth(), sound.getnframes()
            rate_hz = sound.getframerate()
            if channels != 1 or (spec.rate_hz and rate_hz != spec.rate_hz):
                of_rate, option = "", ""
                if spec.rate_hz:
                    of_rate, option = f" of {spec.rate_hz} Hz", f" -ar {spec.rate_hz}"
                raise SoundError(
                    f"has {channels} channel{'s' * (channels != 1)} of {rate_hz} Hz; the model "
                    f"takes one channel{of_rate}. Convert the file: "
                    f"`ffmpeg -i {shlex.quote(str(path.absolute()))} -ac 1{option} mono.wav`."
                )
            data = sound.readframes(count)
    except EOFError:
        reason = "ends inside its header" if path.stat().st_size else "is empty"
        raise SoundError(f"{reason}; expected a PCM .wav file.") from None
    except RuntimeError:  # wave raises RuntimeError on chunks outside the file.
        raise SoundError(
            "is damaged: its header describes more data than the file has. Copy the file again."
        ) from None
    if width not in _SHIFT_BY_BYTES:
        raise SoundError(f"has {8 * width} bits per sample; expected 8, 16, 24 or 32.")
    if len(data) < count * width:
        raise SoundError(
            f"is incomplete: it has {len(data) // width:,} of its {count:,} samples. Copy the "
            "file again."
        )
    return data, width, rate_hz


def _samples(data: bytes, width: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Convert PCM data to int32 samples that use the full range of int32.

    Samples of eight bits are unsigned (Multimedia Programming Interface 1.0, "Data Format of the
    Samples").

    Args:
        data: The PCM data.
        width: Bytes per sample.
    """
    count = len(data) // width
    raw = np.frombuffer(data, np.uint8, count=count * width).reshape(count, width)
    if width == 1:
        raw = np.bitwise_xor(raw, np.uint8(0x80))
    # Samples are little-endian; a sample's bytes become the high bytes of an int32.
    wide = np.zeros((count, 4), np.uint8)
    wide[:, 4 - width :] = raw
    return np.asarray(wide.reshape(-1).view("<i4"), np.int32)


def _as_input(window: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    if spec.dtype == "int16":
        return (window >> _SHIFT_BY_BYTES[2]).astype(np.int16)
    real = (window / _FULL_SCALE).astype(np.float32)
    return (
        real.astype(spec.dtype)
        if spec.quantized is None
        else quantize(real, spec.dtype, spec.quantized)
    )
