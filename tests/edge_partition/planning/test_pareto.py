"""Plans of ``--pareto``: comparison, picture and command."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from random_models import random_fleet, random_graph, seeded
from tflite_models import chain_of_adds

from edge_partition.cli import app
from edge_partition.pictures.draw_pareto import draw_pareto
from edge_partition.planning.compare_plans import Choice, compare_plans
from edge_partition.planning.fleet import Device, Fleet
from edge_partition.planning.plan_split import InfeasiblePlanError, LimitError, plan_split

if TYPE_CHECKING:
    from pathlib import Path

    from edge_partition.planning.plan import Plan

SVG = "{http://www.w3.org/2000/svg}"
SEEDS = range(4)


def choices_of(seed: int, boards: int = 4) -> tuple[Choice, ...]:
    rng = seeded(seed)
    return compare_plans(random_graph(rng, 12), random_fleet(rng, boards, ram_mib=(300, 900)))


def dominates(one: Plan, other: Plan) -> bool:
    return (
        one.latency_ms <= other.latency_ms
        and one.bottleneck_ms <= other.bottleneck_ms
        and (one.latency_ms, one.bottleneck_ms) != (other.latency_ms, other.bottleneck_ms)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_front_has_the_plans_that_no_other_plan_dominates(seed: int) -> None:
    choices = choices_of(seed)
    front = [choice.plan for choice in choices if choice.is_on_front]
    for plan in front:
        assert not any(dominates(choice.plan, plan) for choice in choices)
    for choice in choices:
        if not choice.is_on_front:
            assert any(
                dominates(plan, choice.plan)
                or (plan.latency_ms, plan.bottleneck_ms)
                == (choice.plan.latency_ms, choice.plan.bottleneck_ms)
                for plan in front
            )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_front_reaches_from_the_lowest_latency_to_the_highest_throughput(seed: int) -> None:
    rng = seeded(seed)
    graph, fleet = random_graph(rng, 12), random_fleet(rng, 4, ram_mib=(300, 900))
    front = [choice.plan for choice in compare_plans(graph, fleet) if choice.is_on_front]
    latency_plan, throughput_plan = plan_split(graph, fleet, "latency"), plan_split(graph, fleet)
    assert latency_plan.bottleneck_ms > throughput_plan.bottleneck_ms
    assert min(plan.latency_ms for plan in front) == latency_plan.latency_ms
    assert min(plan.bottleneck_ms for plan in front) == throughput_plan.bottleneck_ms


def test_a_small_fleet_has_plans_for_every_number_of_boards() -> None:
    assert {choice.plan.boards for choice in choices_of(1)} == {1, 2, 3, 4}


def test_a_large_fleet_has_plans_for_about_a_dozen_numbers_of_boards() -> None:
    graph = replace(random_graph(seeded(3), 30), cuts=tuple(range(1, 30)))
    fleet = Fleet(tuple(Device(f"board-{index}") for index in range(30)))
    counts = {len(choice.plan.stages) for choice in compare_plans(graph, fleet, max_replicas=1)}
    assert {1, 2, 3, 30} <= counts
    assert len(counts) <= 12 + 8


def test_numbers_of_boards_without_a_feasible_plan_are_left_out() -> None:
    graph = replace(random_graph(seeded(9), 12), cuts=tuple(range(1, 12)))
    choices = compare_plans(graph, Fleet((Device("large"), Device("tiny", ram_mib=1))))
    assert {choice.plan.boards for choice in choices} == {1}


def test_every_plan_meets_the_limits() -> None:
    rng = seeded(1)
    graph, fleet = random_graph(rng, 12), random_fleet(rng, 4, ram_mib=(300, 900))
    free = compare_plans(graph, fleet)
    middle = sorted(choice.plan.latency_ms for choice in free)[len(free) // 2]
    bound = compare_plans(graph, fleet, max_latency_ms=middle)
    assert max(choice.plan.latency_ms for choice in bound) <= middle
    assert len(bound) < len(free)
    with pytest.raises(LimitError):
        compare_plans(graph, fleet, max_latency_ms=0.001)


def test_a_model_that_fits_no_board_is_an_error() -> None:
    with pytest.raises(InfeasiblePlanError):
        compare_plans(random_graph(seeded(9), 12), Fleet((Device("tiny", ram_mib=1),)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_picture_labels_the_front_with_letters_and_lists_the_boards(seed: int) -> None:
    choices = choices_of(seed)
    front = [choice.plan for choice in choices if choice.is_on_front]
    root = ET.fromstring(draw_pareto(choices))  # noqa: S314
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    for plan in front:
        names = [" + ".join(device.name for device in stage.devices) for stage in plan.stages]
        assert " \u2192 ".join(names) in words
    assert {chr(ord("A") + index) for index in range(len(front))} <= set(words)
    described = root.findtext(f"{SVG}desc") or ""
    assert all(stage.devices[0].name in described for plan in front for stage in plan.stages)
    alone = sum(choice.plan.boards == 1 and _is_shown(choice) for choice in choices)
    assert len(list(root.iter(f"{SVG}polygon"))) == alone > 0


def _is_shown(choice: Choice) -> bool:
    return choice.is_on_front or choice.plan.objective == "throughput" or choice.plan.boards == 1


@pytest.mark.parametrize("boards", [1, 2, 6])
def test_labels_of_the_picture_do_not_overlap(boards: int) -> None:
    root = ET.fromstring(draw_pareto(choices_of(5, boards)))  # noqa: S314
    boxes = []
    for element in root.iter(f"{SVG}text"):
        size, words = float(element.get("font-size", "")), element.text or ""
        width, x = len(words) * size * 0.5, float(element.get("x", ""))
        x -= {"start": 0.0, "middle": width / 2, "end": width}[element.get("text-anchor", "")]
        y = float(element.get("y", ""))
        boxes.append((x, y - size * 0.7, x + width, y, words))
    assert len(boxes) > 8
    for one, other in combinations(boxes, 2):
        across = one[0] < other[2] and other[0] < one[2]
        assert not (across and one[1] < other[3] and other[1] < one[3]), (one, other)


def test_names_with_markup_are_shown_as_they_are() -> None:
    graph = replace(random_graph(seeded(9), 5), name='<b>"a" & b</b>')
    root = ET.fromstring(draw_pareto(compare_plans(graph, Fleet((Device("pi"),)))))  # noqa: S314
    assert '<b>"a" & b</b>' in [element.text for element in root.iter(f"{SVG}text")]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "chain.tflite"
    path.write_bytes(chain_of_adds())
    return path


def test_the_command_prints_draws_and_writes_json(model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "pareto.svg"
    request = ["plan", str(model), "--stages", "2", "--pareto"]
    shown = CliRunner().invoke(app, [*request, "-o", str(picture)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "latency against throughput" in shown.stdout
    assert "board-0" in shown.stdout
    ET.fromstring(picture.read_text())  # noqa: S314
    told = CliRunner().invoke(app, [*request, "--json"], catch_exceptions=False)
    plans = json.loads(told.stdout)["plans"]
    assert {plan["boards"] for plan in plans} == {1, 2}
    assert any(plan["is_on_front"] for plan in plans)
    assert all(plan["stages"] and plan["latency_ms"] > 0 for plan in plans)


@pytest.mark.parametrize("words", [["--cut", "second"], ["--fleet", "f.toml", "--stages", "2"]])
def test_options_that_fix_cuts_or_stages_are_refused(model: Path, words: list[str]) -> None:
    result = CliRunner().invoke(app, ["plan", str(model), "--pareto", *words])
    assert result.exit_code == 2
    assert "--pareto" in result.output
