"""A request without a route gets a board for each stage: by speed, and no board that is offline."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from board_deployments import manifest

from device_agent.find_route import RouteFinder

if TYPE_CHECKING:
    from edge_core.contract.manifest import Manifest

BOARDS = ("pi-2", "pi-3", "pi-4")


def with_times(boards_ms: tuple[float, ...], links_ms: tuple[float, ...] = ()) -> Manifest:
    """Return a manifest of two stages: ``pi-1``, and three boards with these times."""
    made = manifest("g1", ("pi-1",), BOARDS)
    first, second = made.stages
    predicted = replace(second.predicted, boards_ms=boards_ms, links_ms=links_ms)
    return replace(made, stages=(first, replace(second, predicted=predicted)))


def shares(finder: RouteFinder, wanted: Manifest, count: int = 70) -> Counter[str]:
    return Counter(finder.find(wanted, 0)[1] for _ in range(count))


def test_a_route_names_one_board_a_stage_and_this_board_for_its_own() -> None:
    wanted = manifest("g1", ("pi-1", "pi-9"), ("pi-2",), ("pi-3", "pi-1"))
    assert RouteFinder("pi-1").find(wanted, 0)[:2] == ["pi-1", "pi-2"]
    assert RouteFinder("pi-1").find(wanted, 2)[1:] == ["pi-2", "pi-1"]


@pytest.mark.parametrize(
    ("boards_ms", "links_ms", "expected"),
    [
        ((1.0, 2.0, 4.0), (), {"pi-2": 40, "pi-3": 20, "pi-4": 10}),
        # The slower of processor and link limits a board.
        ((1.0, 1.0, 1.0), (4.0, 0.5, 2.0), {"pi-2": 10, "pi-3": 40, "pi-4": 20}),
        ((), (), {"pi-2": 24, "pi-3": 23, "pi-4": 23}),
        ((0.0, 0.0, 0.0), (), {"pi-2": 24, "pi-3": 23, "pi-4": 23}),
    ],
)
def test_boards_get_requests_in_proportion_to_their_speed(
    boards_ms: tuple[float, ...], links_ms: tuple[float, ...], expected: dict[str, int]
) -> None:
    assert shares(RouteFinder("pi-1"), with_times(boards_ms, links_ms)) == expected


def test_a_board_that_is_offline_gets_nothing_and_no_surplus_when_it_is_back() -> None:
    finder, wanted = RouteFinder("pi-1"), with_times((1.0, 1.0, 1.0))
    finder.note_availability("pi-3", is_online=False)
    assert shares(finder, wanted) == {"pi-2": 35, "pi-4": 35}
    finder.note_availability("pi-3", is_online=True)
    assert shares(finder, wanted, 9) == dict.fromkeys(BOARDS, 3)


def test_a_stage_whose_boards_are_all_offline_still_gets_a_route() -> None:
    finder = RouteFinder("pi-1")
    for board in BOARDS:
        finder.note_availability(board, is_online=False)
    assert set(shares(finder, with_times((1.0, 2.0, 4.0)))) == set(BOARDS)


def test_generations_are_counted_apart() -> None:
    finder, wanted = RouteFinder("pi-1"), with_times((1.0, 1.0, 1.0))
    assert finder.find(wanted, 0) == finder.find(replace(wanted, generation="g2"), 0)
