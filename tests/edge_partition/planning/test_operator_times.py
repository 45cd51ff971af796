from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from random_models import random_graph, seeded

from edge_partition.planning.cost_model import operator_work_macs, stage_cost
from edge_partition.planning.fleet import Device
from edge_partition.planning.operator_times import operator_times_ms
from edge_partition.planning.stage_times import StageTimes

GRAPH = random_graph(seeded(4), 30)
BOARD = Device("board", speed_gmac_s=5)


def times_of(device: Device, start: int, stop: int) -> list[float]:
    stage_ms = stage_cost(GRAPH, device, start, stop).invoke_ms
    times_ms = operator_times_ms(GRAPH, device, start, stop, stage_ms)
    assert sum(times_ms) == pytest.approx(stage_ms)
    return times_ms


def test_estimated_times_are_those_of_the_cost_model() -> None:
    alone_ms = [stage_cost(GRAPH, BOARD, index, index + 1).invoke_ms for index in range(3, 20)]
    assert times_of(BOARD, 3, 20) == pytest.approx(alone_ms, rel=1e-4)


def test_measured_operators_share_the_time_that_belongs_to_none_of_them() -> None:
    before_ns = tuple(1_000_000 * index**2 for index in range(31))
    board = replace(BOARD, stage_times=StageTimes(before_ns, 40_000_000, 3.0))
    times_ms = times_of(board, 5, 12)
    own_ms = [(after - before) / 1e6 for before, after in pairwise(before_ns[5:13])]
    assert sum(times_ms) > sum(own_ms) + 40
    assert [time / times_ms[0] for time in times_ms] == pytest.approx(
        [own / own_ms[0] for own in own_ms]
    )


def test_operators_without_a_measured_time_share_by_their_work() -> None:
    board = replace(BOARD, stage_times=StageTimes((0,) * 31, 7_000_000, 0.0))
    work = operator_work_macs(GRAPH)[5:12]
    assert times_of(board, 5, 12) == pytest.approx([7 * each / sum(work) for each in work])
