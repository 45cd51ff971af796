from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from random_models import random_fleet, random_graph, seeded

from edge_partition.pictures.draw_plan import draw_plan
from edge_partition.planning.fleet import Device, Fleet, equal_fleet
from edge_partition.planning.plan_split import plan_split

if TYPE_CHECKING:
    from edge_partition.tflite.graph import Wire

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


@pytest.mark.parametrize("count", range(1, 9))
def test_a_picture_shows_each_board_its_times_and_the_bytes_that_cross(count: int) -> None:
    graph = replace(random_graph(seeded(9), 40), cuts=tuple(range(1, 40)))
    plan = plan_split(graph, equal_fleet(count), stages=count)
    words = texts(draw_plan(plan))
    for stage in plan.stages:
        assert stage.board_names in words
    crossing = [word for word in words if word.endswith((" kB", " MB", " B"))]
    assert len(crossing) == count + 1
    assert words.count("bottleneck") == (count > 1)


def test_each_operator_has_a_bar() -> None:
    graph = random_graph(seeded(9), 40)
    plan = plan_split(graph, equal_fleet(3))
    root = ET.fromstring(draw_plan(plan))  # noqa: S314
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    assert len(bars) == 40


def test_boundary_labels_do_not_overlap_when_all_cuts_are_close() -> None:
    graph = replace(random_graph(seeded(9), 60), cuts=tuple(range(1, 8)))
    plan = plan_split(graph, equal_fleet(8), stages=8)
    root = ET.fromstring(draw_plan(plan))  # noqa: S314
    pills = [rect for rect in root.iter(f"{SVG}rect") if rect.get("rx") == "13"]
    spans = [(float(pill.get("x", "")), float(pill.get("width", ""))) for pill in pills]
    assert len(spans) == 9
    for (x, width), (next_x, _) in itertools.pairwise(spans):
        assert x + width <= next_x
    assert spans[0][0] >= 0
    assert sum(spans[-1]) <= 1200


def test_names_with_markup_are_shown_as_they_are() -> None:
    graph = replace(random_graph(seeded(9), 5), name='<b>"a" & b</b>')
    plan = plan_split(graph, equal_fleet(1))
    assert '<b>"a" & b</b>' in texts(draw_plan(plan))


def test_memory_is_shown_against_the_limit() -> None:
    graph = random_graph(seeded(9), 6)
    device = replace(random_fleet(seeded(1), 1, ram_mib=(300, 300)).devices[0], storage_mib=1e5)
    plan = plan_split(graph, Fleet((device,)))
    assert any(word.endswith("of 300 MiB") for word in texts(draw_plan(plan)))


def pills(svg: str) -> list[tuple[float, float, float]]:
    rects = [rect for rect in ET.fromstring(svg).iter(f"{SVG}rect") if rect.get("rx") == "13"]  # noqa: S314
    return [tuple(float(rect.get(key, "")) for key in ("x", "y", "width")) for rect in rects]  # type: ignore[misc]


@pytest.mark.parametrize("wire", ["float32", "float16"])
def test_labels_of_more_boundaries_than_a_row_holds_stay_apart_and_on_the_page(wire: Wire) -> None:
    graph = replace(random_graph(seeded(9), 60), cuts=tuple(range(1, 60)))
    labels = pills(draw_plan(plan_split(graph, equal_fleet(24), stages=24, wire=wire)))
    assert len(labels) == 25
    for (x, y, width), (other_x, other_y, other_width) in itertools.combinations(labels, 2):
        apart = x + width <= other_x or other_x + other_width <= x
        assert apart or abs(y - other_y) >= 26
    assert min(x for x, _, _ in labels) >= 0
    assert max(x + width for x, _, width in labels) <= 1200


def test_only_float16_boundaries_are_labelled_float16() -> None:
    graph = replace(random_graph(seeded(9), 12), cuts=tuple(range(1, 12)))
    plain = texts(draw_plan(plan_split(graph, equal_fleet(3), stages=3)))
    assert not any("float16" in word for word in plain)
    narrow = texts(draw_plan(plan_split(graph, equal_fleet(3), stages=3, wire="float16")))
    assert sum(word.endswith("B float16") for word in narrow) == 2


def test_unused_boards_are_named() -> None:
    graph = random_graph(seeded(9), 8)
    spare = Device("spare-board", speed_gmac_s=0.01)
    fleet = Fleet((Device("quick-board", speed_gmac_s=50), spare))
    words = texts(draw_plan(plan_split(graph, fleet, "latency")))
    assert "Not used: spare-board" in words
    alone = plan_split(graph, Fleet(fleet.devices[:1]), "latency")
    assert not any(word.startswith("Not used") for word in texts(draw_plan(alone)))


def test_replicas_are_counted_named_and_their_times_shared() -> None:
    graph = replace(random_graph(seeded(9), 5), cuts=())
    plan = plan_split(graph, equal_fleet(3))
    assert [len(stage.devices) for stage in plan.stages] == [3]
    words = texts(draw_plan(plan))
    assert "board-0, board-1, board-2" in words
    assert any(word.endswith("3 boards in turn") for word in words)
    assert any(word.endswith("messages) / 3") for word in words)
    assert any(word.endswith("MiB, no limit") for word in words)


def test_replicas_whose_names_do_not_fit_are_counted() -> None:
    graph = replace(random_graph(seeded(9), 5), cuts=())
    fleet = Fleet(tuple(Device(f"{'gate-' * 24}{index}") for index in range(4)))
    words = texts(draw_plan(plan_split(graph, fleet)))
    assert any(word.startswith("gate-gate") and word.endswith("\u2026 + 3 more") for word in words)
