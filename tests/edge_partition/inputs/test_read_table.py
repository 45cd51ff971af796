from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from input_files import VECTOR, error_of

from edge_core.contract.manifest import Quantized, TensorSpec
from edge_partition.inputs.load_inputs import load_input, load_samples

if TYPE_CHECKING:
    from pathlib import Path


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    ["1,2,3\n4,5,6\n", "a,b,c\n1,2,3\n4,5,6", "1;2;3\n4;5;6", "1\t2\t3\n4\t5\t6\n\n",
     "1 2  3\n4 5 6", '"1","2","3"\r\n"4","5","6"\r\n', "\ufeff1, 2, 3\n4, 5, 6e0"],
)  # fmt: skip
def test_each_row_of_a_table_is_a_sample(tmp_path: Path, text: str) -> None:
    spec = TensorSpec("x", "float32", (1, 3))
    made = [sample["x"].tolist() for sample in load_samples(table(tmp_path, text), [spec])]
    assert made == [[[1, 2, 3]], [[4, 5, 6]]]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1,2,3\n4,5,6", (1, 2, 3)),
        ("x,y,z\n1,2,3\n4,5,6", (2, 3)),
        ("1\n2\n3\n4\n5\n6", (1, 6)),
        ("1\n2\n3\n4\n5\n6", (1, 6, 1)),
    ],
)
def test_a_whole_table_is_a_sample_if_the_model_takes_a_table(
    tmp_path: Path, text: str, shape: tuple[int, ...]
) -> None:
    (sample,) = load_samples(table(tmp_path, text), [TensorSpec("x", "float32", shape)])
    np.testing.assert_array_equal(sample["x"], np.arange(1, 7).reshape(shape))


def test_a_table_for_integers_has_whole_numbers_or_is_quantized(tmp_path: Path) -> None:
    spec = TensorSpec("x", "int32", (1, 2))
    assert load_input(table(tmp_path, "3,-4"), [spec])["x"].tolist() == [[3, -4]]
    assert "not a valid int32" in error_of(table(tmp_path, "3,4.5"), spec)
    assert "not a valid uint8" in error_of(table(tmp_path, "3,-4"), replace(spec, dtype="uint8"))
    scaled = replace(spec, dtype="uint8", quantized=Quantized(0.5, 1))
    assert load_input(table(tmp_path, "3,4.5"), [scaled])["x"].tolist() == [[7, 10]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1,2", "1 rows of 2 numbers; input x is float32[2, 3], so each row needs 6 numbers"),
        ("1,2", "6 numbers, or the file needs 2 rows of 3 numbers."),
        ("1,2,3\n4,5", "line 2 has 2 cells; expected 3 as in the first row"),
        ("a,b,c\n1,2,3\n4,five,6", "line 3 has the cell 'five'"),
    ],
)  # fmt: skip
def test_other_tables_are_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in error_of(table(tmp_path, text), VECTOR)
