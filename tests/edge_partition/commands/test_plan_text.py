"""A plan in sentences and rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from random_models import random_graph, seeded

from edge_partition.commands._plan_text import (
    PLAN_COLUMNS,
    plan_columns,
    plan_head,
    plan_reasons,
    plan_rows,
    plan_sources,
    plan_verdict,
)
from edge_partition.planning.fleet import Device, Fleet, equal_fleet
from edge_partition.planning.plan_split import plan_split

if TYPE_CHECKING:
    from edge_partition.planning.plan import Plan

GRAPH = replace(random_graph(seeded(9), 40), name="net", cuts=tuple(range(1, 40)))


def measured(plan: Plan, *fields: str) -> Plan:
    """Return the plan with these sources of its first stage measured."""
    first = plan.stages[0]
    costs = tuple(replace(cost, **dict.fromkeys(fields, "measured")) for cost in first.costs)
    return replace(plan, stages=(replace(first, costs=costs), *plan.stages[1:]))


def test_the_verdict_names_model_boards_objective_and_both_numbers() -> None:
    plan = plan_split(GRAPH, equal_fleet(3), "latency", stages=3)
    assert plan_verdict(plan) == (
        f"net over 3 boards, best latency: {plan.throughput_per_s:.1f} requests/s, "
        f"{plan.latency_ms:.1f} ms for one request (predicted)."
    )
    assert "over 1 board, best throughput" in plan_verdict(plan_split(GRAPH, equal_fleet(1)))


def test_the_slowest_part_and_one_board_alone_are_named() -> None:
    plan = plan_split(GRAPH, equal_fleet(3), stages=3)
    slowest, *_ = reasons = list(plan_reasons(plan))
    assert plan.stages[plan.slowest_stage].board_names in slowest
    assert any(line.startswith("For comparison, board-0 alone: ") for line in reasons)


def test_replicas_that_limit_a_plan_are_named_with_their_common_rate() -> None:
    plan = plan_split(replace(GRAPH, cuts=()), equal_fleet(2))
    period_ms = plan.stages[0].bottleneck_ms
    assert next(plan_reasons(plan)) == (
        f"The slowest part: board-0, board-1 together, a request every {period_ms:.1f} ms."
    )


def test_without_a_prediction_the_head_has_no_figure_but_the_boards() -> None:
    plan = plan_split(GRAPH, equal_fleet(3), stages=3)
    assert plan_head(plan) == "net over 3 boards, best throughput."


def test_a_split_that_is_worse_than_one_board_is_reported() -> None:
    slow_links = Fleet(tuple(Device(f"pi-{index}", link_ms=500.0) for index in range(2)))
    plan = plan_split(GRAPH, slow_links, "latency", stages=2)
    assert list(plan_reasons(plan))[-1] == "pi-0 alone has the lower latency."
    free = plan_split(GRAPH, slow_links, "latency")
    assert free.boards == 1
    lines = list(plan_reasons(free))
    assert "Not used: pi-1." in lines
    assert "One board is best here: a split over more boards raises the latency." in lines


def test_each_board_has_a_row_of_every_column() -> None:
    plan = plan_split(GRAPH, equal_fleet(3), stages=3)
    rows = plan_rows(plan, [2**20, 2**21, 2**22])
    assert {len(row) for row in rows} == {len(PLAN_COLUMNS)}
    assert [row[:2] for row in rows] == [["0", "board-0"], ["1", "board-1"], ["2", "board-2"]]
    assert [row[3] for row in rows] == ["1.0", "2.0", "4.0"]
    assert [row[5] for row in rows] == ["none"] * 3


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ((), "All times are estimated from each board's speed and link"),
        (("invoke_source",), "Measured: compute on board-0. The other times are estimated"),
        (
            ("invoke_source", "handling_source", "link_source"),
            "Measured: compute on board-0; messages on board-0; network on board-0.",
        ),
    ],
)
def test_measured_times_are_named_below_the_table(fields: tuple[str, ...], line: str) -> None:
    plan = measured(plan_split(GRAPH, equal_fleet(2), stages=2), *fields)
    _, sources = plan_sources(plan)
    assert sources.startswith(line)
    assert sources.endswith("memory is estimated too.")


def test_a_plan_without_estimates_is_measured() -> None:
    plan = plan_split(GRAPH, equal_fleet(1))
    plan = measured(plan, "invoke_source", "handling_source", "link_source")
    assert list(plan_sources(plan))[1] == "All times are measured; memory is estimated."


def test_float16_between_boards_is_said_once() -> None:
    narrow = plan_split(GRAPH, equal_fleet(3), stages=3, wire="float16")
    assert list(plan_sources(narrow))[-1] == "Activations travel as float16 between all stages."
    mixed = replace(narrow, wires=("float16", "float32"))
    assert list(plan_sources(mixed))[-1] == "Activations travel as float16 after stage 0."


def test_a_plan_for_energy_shows_joules_for_the_request_and_for_each_board() -> None:
    boards = tuple(
        Device(f"pi-{index}", active_watts=4.0 + index, idle_watts=2.0) for index in range(2)
    )
    plan = plan_split(GRAPH, Fleet(boards), "energy", stages=2)
    assert plan.energy_j is not None
    verdict = plan_verdict(plan)
    assert "over 2 boards, least energy: " in verdict
    assert f" ms and {plan.energy_j:.3g} J for one request" in verdict
    rows = plan_rows(plan, None)
    assert plan_columns(plan)[-1] == ">energy\nJ"
    assert {len(row) for row in rows} == {len(plan_columns(plan))}
    assert sum(float(row[-1]) for row in rows) == pytest.approx(plan.energy_j, abs=0.002)
    assert list(plan_reasons(plan))[-1] == "pi-0 alone takes less energy."
    assert any("above its idle power" in line for line in plan_sources(plan))


def test_joules_are_left_out_where_the_power_of_a_board_is_not_known() -> None:
    plan = plan_split(GRAPH, equal_fleet(2))
    assert " J " not in plan_verdict(plan)
    assert not any("Energy" in line for line in plan_sources(plan))
