"""The trained model of ``examples/digits`` is small, right, and was tested on unseen scans."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import pytest
from checkout import CHECKOUT
from PIL import Image
from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import keras
    from numpy.typing import NDArray

DIGITS = CHECKOUT / "examples" / "digits"
PICTURES = sorted((DIGITS / "images").glob("*.png"))


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_example", DIGITS / "digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model() -> keras.Model:
    import keras  # noqa: PLC0415 - seconds, and most of these tests need none of it

    return keras.models.load_model(DIGITS / "digits.keras")


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float32]:
    # Loaded independently of the example's code.
    return np.stack(
        [
            np.asarray(
                Image.open(path).convert("RGB").resize((96, 96), Image.Resampling.BICUBIC),
                np.float32,
            )
            for path in PICTURES
        ]
    )


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int64]:
    return np.array([_label(path) for path in PICTURES])


def _label(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _position(path: Path) -> int:
    return int(path.stem.split("-")[2])


def test_the_model_file_has_12_mb_at_most() -> None:
    assert (DIGITS / "digits.keras").stat().st_size <= 12_000_000


def test_the_model_takes_96_by_96_rgb_and_each_output_has_a_label(model: keras.Model) -> None:
    names = (DIGITS / "digits.labels.txt").read_text(encoding="utf-8").splitlines()

    assert names == [str(digit) for digit in range(10)]
    assert model.input_shape == (None, 96, 96, 3)
    assert model.output_shape == (None, len(names))


def test_a_fifth_of_the_scans_is_held_out_and_no_training_scan_among_them(
    digits: ModuleType,
) -> None:
    scans = load_digits()
    training_part, held_out_part = digits.split()

    everything = np.concatenate([training_part, held_out_part])
    assert sorted(everything) == list(range(len(scans.target)))
    assert len(held_out_part) == 360
    # The training part has no copy of a held-out scan either.
    trained_on = {scans.data[position].tobytes() for position in training_part}
    assert not any(scans.data[position].tobytes() in trained_on for position in held_out_part)
    counts = np.bincount(scans.target[held_out_part])
    assert np.abs(counts - np.bincount(scans.target) / 5).max() <= 1


def test_the_pictures_are_the_held_out_scans_with_their_true_labels(
    digits: ModuleType, pictures: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    expected_images, expected_labels = digits.held_out()
    _, held_out_part = digits.split()
    positions = [_position(path) for path in PICTURES]
    order = np.argsort(positions)

    assert np.array_equal(np.array(positions)[order], held_out_part)
    assert np.array_equal(pictures[order], expected_images)
    assert np.array_equal(labels[order], expected_labels)


def test_the_model_reads_97_of_100_held_out_digits_or_more(
    model: keras.Model, pictures: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    scores = model.predict(pictures, batch_size=60, verbose=0)
    answers = scores.argmax(axis=-1)

    # The comparison can fail: the same outputs are wrong for other pictures.
    assert np.mean(answers == labels[::-1]) < 0.2
    assert np.mean(answers == labels) >= 0.97
