from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from input_files import BATCH, RGB
from PIL import Image

from edge_core.contract.manifest import TensorSpec
from edge_partition.inputs.batches import batch_size, batches, split_outputs
from edge_partition.inputs.load_inputs import InputFileError, load_input, load_samples

if TYPE_CHECKING:
    from pathlib import Path


def test_a_batch_is_filled_with_pictures_and_the_last_one_repeated(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(file)
    samples = [sample for file in files for sample in load_samples(file, [BATCH])]
    assert [sample["image"].shape for sample in samples] == [(1, 4, 6, 3)] * 5
    made = list(batches(samples, [BATCH]))
    assert [count for _, count in made] == [3, 2]
    assert [inputs["image"][:, 0, 0, 0].tolist() for inputs, _ in made] == [[0, 1, 2], [3, 4, 4]]
    assert load_input(files[1], [BATCH])["image"][:, 0, 0, 0].tolist() == [1, 1, 1]


def test_stacked_pictures_fill_batches_too(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((7, 4, 6, 3), np.float32))
    np.save(tmp_path / "one.npy", np.zeros((4, 6, 3), np.float32))
    samples = list(load_samples(tmp_path / "x.npy", [BATCH]))
    assert [count for _, count in batches(samples, [BATCH])] == [3, 3, 1]
    assert len(list(load_samples(tmp_path / "one.npy", [BATCH]))) == 1
    with pytest.raises(InputFileError, match="inputs for several inferences"):
        load_input(tmp_path / "x.npy", [BATCH])


def test_copies_that_fill_a_batch_give_no_answers() -> None:
    outputs = {"scores": np.arange(6).reshape(3, 2), "boxes": np.arange(3).reshape(3, 1)}
    parts = split_outputs(outputs, 2, [BATCH])
    assert [part["scores"].tolist() for part in parts] == [[[0, 1]], [[2, 3]]]
    assert [part["boxes"].tolist() for part in parts] == [[[0]], [[1]]]
    mixed = {**outputs, "mean": np.zeros(4)}
    (whole,) = split_outputs(mixed, 2, [BATCH])
    assert whole.keys() == mixed.keys()
    assert len(split_outputs(outputs, 1, [RGB])) == 1


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(8, 4, 6, 3)], 8),
        ([(1, 4, 6, 3)], 1),
        ([(8, 28, 28)], 8),
        ([(28, 28)], 1),
        ([(8, 100)], 1),  # may be a sequence
        ([(8, 4, 6, 3), (8, 10)], 8),
        ([(8, 4, 6, 3), (10,)], 1),
        ([()], 1),
    ],
)
def test_only_pictures_come_in_batches(shapes: list[tuple[int, ...]], size: int) -> None:
    specs = [TensorSpec(f"x{at}", "float32", shape) for at, shape in enumerate(shapes)]
    assert batch_size(specs) == size
