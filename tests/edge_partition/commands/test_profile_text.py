"""Measured boards in sentences."""

from __future__ import annotations

import pytest

from edge_partition.commands._profile_text import _span, profile_verdict


@pytest.mark.parametrize(
    ("whole_ms", "verdict"),
    [
        ({"a": 3.0, "b": 1.5, "c": None},
         "net, measured on 3 boards: the whole model takes from 1.50 ms on b to 3.00 ms on a."),
        ({"a": 3.0, "b": None},
         "net, measured on 2 boards: the whole model takes 3.00 ms on a."),
        ({"a": None},
         "net, measured on 1 board: the whole model is too large for every board."),
    ],
)  # fmt: skip
def test_the_verdict_has_the_fastest_and_the_slowest_board(
    whole_ms: dict[str, float | None], verdict: str
) -> None:
    assert profile_verdict("net", whole_ms) == verdict


def test_a_range_of_one_number_is_one_number() -> None:
    assert (_span(None), _span((60.2, 60.4)), _span((40.0, 61.0))) == ("-", "60", "40-61")
