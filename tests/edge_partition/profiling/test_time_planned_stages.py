from __future__ import annotations

from random_models import random_graph, seeded

from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan import Plan
from edge_partition.planning.stage_times import TimedSlice
from edge_partition.profiling.profile_store import BoardProfile
from edge_partition.profiling.time_planned_stages import (
    TIMES,
    count_round,
    count_timings,
    due_stages,
)

GRAPH = random_graph(seeded(3), 6)
ONE, TWO = equal_fleet(2).devices
CUT = GRAPH.cuts[0]
SPLIT = Plan.of(GRAPH, [((ONE,), 0, CUT), ((TWO,), CUT, 6)])
REPLICAS = Plan.of(GRAPH, [((ONE, TWO), 0, 6)])


def profile(board: str, *stages: tuple[int, int]) -> BoardProfile:
    slices = tuple(TimedSlice(start, stop, 1.0) for start, stop in stages)
    return BoardProfile("ab", "model", board, "r", 1, "2026", slices, (), 1.0)


def test_every_stage_of_every_plan_is_due_on_each_of_its_boards() -> None:
    assert due_stages([SPLIT, REPLICAS, SPLIT], {}) == {
        "board-0": [(0, CUT), (0, 6)],
        "board-1": [(0, 6), (CUT, 6)],
    }


def test_a_stage_is_due_until_it_is_timed_often_enough() -> None:
    few = count_timings([profile("board-0", *[(0, CUT)] * (TIMES - 1))])
    assert few == {("board-0", (0, CUT)): TIMES - 1}
    assert due_stages([SPLIT], few)["board-0"] == [(0, CUT)]
    enough = count_timings([profile("board-0", *[(0, CUT)] * TIMES)])
    assert due_stages([SPLIT], enough) == {"board-1": [(CUT, 6)]}


def test_a_board_with_all_its_stages_timed_is_not_asked() -> None:
    timed = count_timings([profile("board-0", *[(0, 6)] * TIMES), profile("board-1")])
    assert due_stages([REPLICAS], timed) == {"board-1": [(0, 6)]}
    assert due_stages([], timed) == {}


def test_a_stage_that_a_board_cannot_hold_is_not_due_again() -> None:
    due = {"board-0": [(0, 6)], "board-1": [(0, 6)]}
    profiles = {"board-0": profile("board-0", (0, 6), (0, 6)), "board-1": profile("board-1")}
    timed = count_round(due, profiles)
    assert timed == {("board-0", (0, 6)): 1, ("board-1", (0, 6)): TIMES}
    assert due_stages([REPLICAS], timed) == {"board-0": [(0, 6)]}
