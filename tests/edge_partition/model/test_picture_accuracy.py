"""A split classifier for pixels from -1 to 1 has the accuracy of Keras."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edge_partition.commands import split, verify

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HELD_OUT = slice(1400, 1550)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder with ``m.keras``, ``pictures`` and ``calibration``; Keras's own accuracy."""
    import keras  # noqa: PLC0415 -- seconds
    from sklearn.datasets import load_digits  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("digits")
    keras.utils.set_random_seed(1)
    digits, classes = load_digits(return_X_y=True)
    small = digits.reshape(-1, 8, 8, 1) * 255 / 16
    images = small.repeat(2, axis=1).repeat(2, axis=2).round().astype(np.uint8)
    inputs = images / np.float32(127.5) - 1
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            keras.layers.Conv2D(12, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(inputs[:1400], classes[:1400], epochs=8, verbose=0)
    model.save(folder / "m.keras")
    (folder / "m.labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    write(folder / "pictures", images[HELD_OUT], classes[HELD_OUT])
    write(folder / "calibration", images[:60], classes[:60])
    _, accuracy = model.evaluate(inputs[HELD_OUT], classes[HELD_OUT], verbose=0)
    return folder, float(accuracy)


def write(folder: Path, images: NDArray[np.uint8], classes: NDArray[Any]) -> None:
    folder.mkdir()
    for number, (image, digit) in enumerate(zip(images, classes, strict=True)):
        Image.fromarray(image[..., 0]).save(folder / f"digit-{digit}-{number:03}.png")


def split_with(folder: Path, *options: str) -> None:
    words = [str(folder / "m.keras"), "--stages", "2", "-o", str(folder / "build"), *options]
    result = CliRunner().invoke(split.command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def accuracy_in(folder: Path) -> tuple[float, float]:
    """Return the accuracy of the whole model and of its two parts, by ``verify``."""
    words = [str(folder / "build"), str(folder / "pictures"), "--json"]
    result = CliRunner().invoke(verify.command, words, catch_exceptions=False)
    found = json.loads(result.stdout)["accuracy"]
    assert found["inputs"] == HELD_OUT.stop - HELD_OUT.start
    return found["whole_right"] / found["inputs"], found["parts_right"] / found["inputs"]


def take_wrong_pixels(folder: Path) -> None:
    path = folder / "build" / "manifest.json"
    document = json.loads(path.read_text())
    for spec in (*document["inputs"], *document["stages"][0]["inputs"]):
        spec["pixels"].update(mean=[0.0], std=[1.0], unit=1.0)
    path.write_text(json.dumps(document))


def test_with_its_pixels_it_answers_as_keras_does_as_floats_and_as_integers(
    trained: tuple[Path, float],
) -> None:
    folder, keras_accuracy = trained
    expected = pytest.approx((keras_accuracy, keras_accuracy), abs=0.01)
    assert keras_accuracy > 0.85
    split_with(folder, "--pixels", "-1..1")
    assert accuracy_in(folder) == expected
    take_wrong_pixels(folder)
    assert max(accuracy_in(folder)) < keras_accuracy - 0.05
    calibration = str(folder / "calibration")
    split_with(folder, "--pixels", "-1..1", "--quantize", "int8", "--calibration", calibration)
    assert accuracy_in(folder) == expected
