from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from edge_core.contract.manifest import Pixels, TensorSpec
from edge_partition.inputs.load_inputs import InputFileError
from edge_partition.inputs.named_requests import named_requests

if TYPE_CHECKING:
    from pathlib import Path

ONE = TensorSpec("x", "float32", (1, 3))
BATCH = TensorSpec("image", "float32", (4, 8, 8, 3), pixels=Pixels("rgb", (0.0,), (1.0,)))


def test_each_input_of_a_stacked_file_has_a_number(tmp_path: Path) -> None:
    single, stack, empty = (tmp_path / name for name in ("a.npy", "b.npy", "c.csv"))
    np.save(single, np.full((1, 3), 7, np.float32))
    np.save(stack, np.arange(9, dtype=np.float32).reshape(3, 3))
    empty.write_text("1,2,3\n4,5,6\n")
    requests = list(named_requests([single, stack, empty], [ONE]))
    assert [request.samples[0].name for request in requests] == [
        str(single),
        *(f"{stack}[{place}]" for place in range(3)),
        *(f"{empty}[{place}]" for place in range(2)),
    ]
    rows = [request.inputs["x"].tolist() for request in requests]
    assert rows == [[[7, 7, 7]], [[0, 1, 2]], [[3, 4, 5]], [[6, 7, 8]], [[1, 2, 3]], [[4, 5, 6]]]


def test_batches_span_files_and_answers_keep_the_names_of_their_pictures(tmp_path: Path) -> None:
    files = []
    for value in range(6):
        files.append(tmp_path / f"{value}.png")
        Image.new("RGB", (20, 30), (value,) * 3).save(files[-1])
    first, second = named_requests(files, [BATCH])
    assert [len(first.samples), len(second.samples)] == [4, 2]
    assert first.inputs["image"].shape == second.inputs["image"].shape == BATCH.shape
    answers = []
    for request in (first, second):
        outputs = {"mean": request.inputs["image"].mean(axis=(1, 2, 3))}
        answers += request.split(outputs, [BATCH])
    # What fills the last request has no answer.
    assert [sample.file for sample, _ in answers] == files
    assert [part["mean"].tolist() for _, part in answers] == [[value] for value in range(6)]
    # Where the model gives one answer for all, so does this.
    ((sample, whole),) = first.split({"sum": np.zeros((1, 9))}, [BATCH])
    assert sample.name == f"{files[0]} to {files[3]}"
    assert whole["sum"].shape == (1, 9)


def test_files_are_read_only_when_requests_are_taken(tmp_path: Path) -> None:
    good = tmp_path / "good.npy"
    np.save(good, np.zeros((1, 3), np.float32))
    requests = named_requests([good, tmp_path / "missing.npy"], [ONE])
    assert next(requests).samples[0].file == good
    with pytest.raises(InputFileError, match=r"missing\.npy"):
        next(requests)


def test_an_unreadable_file_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    good, missing, half, last = (tmp_path / name for name in ("a.npy", "b.npy", "c.csv", "d.npy"))
    for file in (good, last):
        np.save(file, np.zeros((1, 3), np.float32))
    half.write_text("1,2,3\nno,numbers,here\n4,5,6\n")
    told: list[tuple[Path, str]] = []
    requests = named_requests(
        [good, missing, half, last],
        [ONE],
        on_error=lambda file, error: told.append((file, type(error).__name__)),
    )
    names = [request.samples[0].name for request in requests]
    assert [names[0], names[-1]] == [str(good), str(last)]
    assert told == [(missing, "InputFileError"), (half, "InputFileError")]


def test_an_unreadable_picture_is_not_in_a_batch(tmp_path: Path) -> None:
    files = [tmp_path / f"{value}.png" for value in range(6)]
    for value, file in enumerate(files):
        Image.new("RGB", (20, 30), (value,) * 3).save(file)
    files[2].write_bytes(b"no picture")
    told: list[Path] = []
    first, second = named_requests(files, [BATCH], on_error=lambda file, _: told.append(file))
    assert told == [files[2]]
    assert [sample.file for sample in first.samples] == [files[0], files[1], files[3], files[4]]
    assert first.inputs["image"][:, 0, 0, 0].tolist() == [0, 1, 3, 4]
    assert [sample.file for sample in second.samples] == [files[5]]
