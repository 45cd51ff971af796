from __future__ import annotations

import itertools
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from random_models import random_fleet, random_graph, seeded

from edge_partition.draw import draw_plan
from edge_partition.fleet import Fleet, equal_fleet
from edge_partition.plan_split import plan_split

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


@pytest.mark.parametrize("count", range(1, 9))
def test_a_picture_names_each_board_its_times_and_what_crosses(count: int) -> None:
    graph = replace(random_graph(seeded(9), 40), cuts=tuple(range(1, 40)))
    plan = plan_split(graph, equal_fleet(count), stages=count)
    words = texts(draw_plan(plan, graph))
    for stage in plan.stages:
        assert stage.device.name in words
    crossing = [word for word in words if word.endswith((" kB", " MB", " B"))]
    assert len(crossing) == count + 1
    assert words.count("sets the pace") == (count > 1)


def test_each_operator_has_a_bar() -> None:
    graph = random_graph(seeded(9), 40)
    plan = plan_split(graph, equal_fleet(3))
    root = ET.fromstring(draw_plan(plan, graph))  # noqa: S314
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    assert len(bars) == 40


def test_boundary_labels_do_not_overlap_when_all_cuts_are_close() -> None:
    graph = replace(random_graph(seeded(9), 60), cuts=tuple(range(1, 8)))
    plan = plan_split(graph, equal_fleet(8), stages=8)
    root = ET.fromstring(draw_plan(plan, graph))  # noqa: S314
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
    assert '<b>"a" & b</b>' in texts(draw_plan(plan, graph))


def test_memory_is_shown_against_the_limit() -> None:
    graph = random_graph(seeded(9), 6)
    device = replace(random_fleet(seeded(1), 1, ram_mib=(300, 300)).devices[0], storage_mib=1e5)
    plan = plan_split(graph, Fleet((device,)))
    assert any(word.endswith("of 300 MiB") for word in texts(draw_plan(plan, graph)))
