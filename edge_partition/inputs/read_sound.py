"""``.wav`` files -> windows of the length that a model takes."""

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

_SHIFT_BY_BYTES = {1: 24, 2: 16, 3: 8, 4: 0}
_FULL_SCALE = 2.0**31


class SoundError(EdgePartitionError):
    """A sound is none that the model takes; the text lacks the file's name."""


def takes_sound(spec: TensorSpec) -> bool:
    """Return whether an input is a wave: one dimension above 1, floats or 16-bit integers."""
    wide = [size for size in spec.shape if size > 1]
    is_wave = spec.dtype in {"float32", "float16", "int16"} or spec.quantized is not None
    return len(wide) == 1 and is_wave


def sound_windows(
    path: Path, spec: TensorSpec, *, on_note: Callable[[str], None] | None = None
) -> Iterator[np.ndarray[Any, Any]]:
    """Read a mono ``.wav`` of 8, 16, 24 or 32 bits as inputs, one after another.

    Args:
        path: The file.
        spec: The input; its ``rate_hz`` must be the file's where it is known.
        on_note: Called with a sentence where the model's rate is not known, and where the last
            window is filled.

    Yields:
        Arrays of ``spec``: floats from -1 to 1, int16 as they are, other integers by scale and zero
        point. The last window is filled with silence.

    Raises:
        SoundError: The file is stereo or of another rate, or the input takes no wave.
        wave.Error: It is no PCM file.
        OSError: It can't be read.
    """
    if not takes_sound(spec):
        raise SoundError(
            f"sound is no {spec.dtype}{list(spec.shape)}, which {spec.name} takes; give what the "
            "model was trained on, such as a spectrogram, as .npy."
        )
    data, width, rate_hz = _read(path, spec)
    if not spec.rate_hz and on_note is not None:
        on_note(
            f"{path}: the model does not say which sample rate it takes; the file's {rate_hz} Hz "
            "are taken to be right."
        )
    samples = _samples(data, width)
    if not len(samples):
        raise SoundError("holds no sound.")
    length = math.prod(spec.shape)
    missing = -len(samples) % length
    if missing and on_note is not None:
        on_note(
            f"{path}: the model takes {length:,} samples at once; the file has {len(samples):,}, "
            f"so the last {missing:,} of its last window are zeros."
        )
    padded = np.concatenate([samples, np.zeros(missing, np.int32)])
    for window in padded.reshape(-1, length):
        yield _as_input(window, spec).reshape(spec.shape)


def _read(path: Path, spec: TensorSpec) -> tuple[bytes, int, int]:
    """Return a file's PCM, its bytes a sample, and its samples a second."""
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
                    f"takes one{of_rate}: "
                    f"`ffmpeg -i {shlex.quote(str(path.absolute()))} -ac 1{option} mono.wav`."
                )
            data = sound.readframes(count)
    except EOFError:
        reason = "ends within its header" if path.stat().st_size else "is empty"
        raise SoundError(f"{reason}; expected a PCM .wav file.") from None
    except RuntimeError:  # What wave raises on chunks that lead nowhere.
        raise SoundError("is damaged: its parts lead outside the file.") from None
    if width not in _SHIFT_BY_BYTES:
        raise SoundError(f"has {8 * width} bits a sample; expected 8, 16, 24 or 32.")
    if len(data) < count * width:
        raise SoundError(f"is cut short: {len(data) // width:,} samples of {count:,} are there.")
    return data, width, rate_hz


def _samples(data: bytes, width: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return PCM as int32 of full scale.

    Eight bits are unsigned (Multimedia Programming Interface 1.0, "Data Format of the Samples").
    """
    count = len(data) // width
    raw = np.frombuffer(data, np.uint8, count=count * width).reshape(count, width)
    if width == 1:
        raw = np.bitwise_xor(raw, np.uint8(0x80))
    # Little-endian: the file's bytes are the highest of four.
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
