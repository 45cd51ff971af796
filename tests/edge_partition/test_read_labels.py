from __future__ import annotations

from pathlib import Path

import pytest

from edge_partition.read_labels import find_class


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("images/digit-7-0042.png", 7),
        ("images/digit-0-0007.png", 0),
        ("3/0042.png", 3),
        ("3/digit-7.png", 3),
        ("images/9 of 9.png", 9),
        ("images/digit-10.png", None),
        ("images/photo.jpg", None),
    ],
)
def test_a_class_stands_in_the_folder_or_in_the_name(path: str, expected: int | None) -> None:
    assert find_class(Path(path), [str(digit) for digit in range(10)]) == expected


def test_without_labels_nothing_is_known() -> None:
    assert find_class(Path("7/digit-7.png"), []) is None
