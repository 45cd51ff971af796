from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from input_files import RGB, error_of, write_wav

from edge_core.contract.manifest import Quantized, TensorSpec
from edge_partition.inputs.load_inputs import load_input, load_samples

if TYPE_CHECKING:
    from pathlib import Path


SOUND = TensorSpec("sound", "float32", (1, 4), rate_hz=16_000)


@pytest.mark.parametrize(
    ("width", "samples"),
    [
        (1, np.array([128, 192, 0, 255], np.uint8)),
        (2, np.array([0, 2**14, -(2**15), 2**15 - 1], np.int16)),
        (3, np.array([0, 0, 0, 0, 0, 64, 0, 0, 128, 255, 255, 127], np.uint8)),
        (4, np.array([0, 2**30, -(2**31), 2**31 - 1], np.int32)),
    ],
)
def test_sound_of_any_width_is_scaled_to_minus_one_to_one(
    tmp_path: Path, width: int, samples: np.ndarray
) -> None:
    write_wav(tmp_path / "a.wav", samples, width=width)
    made = load_input(tmp_path / "a.wav", [SOUND])["sound"]
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [[0, 0.5, -1, 1]], atol=0.01)


def test_sound_for_integers_is_unchanged(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([1, -2, 3, -4], np.int16))
    whole = load_input(tmp_path / "a.wav", [replace(SOUND, dtype="int16")])["sound"]
    assert whole.tolist() == [[1, -2, 3, -4]]
    scaled = replace(SOUND, dtype="int8", quantized=Quantized(1 / 128, 0))
    write_wav(tmp_path / "a.wav", np.array([0, 2**14, -(2**15), 256], np.int16))
    assert load_input(tmp_path / "a.wav", [scaled])["sound"].tolist() == [[0, 64, -128, 1]]


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 4, 1), (1, 1, 4)])
def test_longer_sound_is_divided_into_windows_and_the_last_is_filled(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    write_wav(tmp_path / "a.wav", np.full(9, 2**14, np.int16))
    made = [
        sample["sound"]
        for sample in load_samples(tmp_path / "a.wav", [replace(SOUND, shape=shape)])
    ]
    assert [array.shape for array in made] == [shape] * 3
    assert [array.reshape(-1).tolist() for array in made[1:]] == [[0.5] * 4, [0.5, 0, 0, 0]]


def test_sound_of_another_rate_or_in_stereo_is_refused_with_a_command_that_converts_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, np.zeros(8, np.int16), rate_hz=44_100)
    message = error_of(path, SOUND)
    assert "1 channel of 44100 Hz; the model takes one channel of 16000" in message
    assert f"`ffmpeg -i {path} -ac 1 -ar 16000 mono.wav`" in message
    write_wav(path, np.zeros(8, np.int16), channels=2)
    assert "has 2 channels of 16000 Hz" in error_of(path, SOUND)
    # Of a rate that nobody knows nothing is said.
    spaced = tmp_path / "a b's.wav"
    path.rename(spaced)
    message = error_of(spaced, replace(SOUND, rate_hz=0))
    assert "the model takes one channel. Convert the file: `ffmpeg" in message
    assert "-ar" not in message
    assert shlex.split(message.split("`")[1])[1:4] == ["-i", str(spaced), "-ac"]
    write_wav(path, np.zeros(0, np.int16))
    assert "no sound" in error_of(path, SOUND)
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert "is empty; expected a PCM .wav file" in error_of(path, SOUND)
    path.write_bytes(whole[:6])
    assert "ends inside its header" in error_of(path, SOUND)


@pytest.mark.parametrize(
    ("count", "zeros"), [(3, "ends with 1 zeros"), (9, "ends with 3 zeros"), (8, "")]
)
def test_zeros_that_fill_a_window_are_noted(tmp_path: Path, count: int, zeros: str) -> None:
    write_wav(tmp_path / "a.wav", np.ones(count, np.int16))
    notes: list[str] = []
    list(load_samples(tmp_path / "a.wav", [SOUND], on_note=notes.append))
    assert len(notes) == bool(zeros)
    assert all(
        f"takes windows of 4 samples; the file has {count} samples, so" in note for note in notes
    )
    assert zeros in "".join(notes)


def test_sound_for_a_model_of_unknown_rate_is_used_with_a_note(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(4, np.int16), rate_hz=22_050)
    notes: list[str] = []
    (sample,) = load_samples(tmp_path / "a.wav", [replace(SOUND, rate_hz=0)], on_note=notes.append)
    assert sample["sound"].shape == (1, 4)
    (note,) = notes
    assert "22050 Hz" in note


def test_sound_is_not_a_spectrogram(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(4, np.int16))
    assert "spectrogram" in error_of(tmp_path / "a.wav", RGB)
