from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from random_models import random_fleet, random_graph, seeded

from edge_partition.pictures import svg
from edge_partition.pictures.draw_plan import draw_plan
from edge_partition.planning.cost_model import operator_work_macs, stage_cost
from edge_partition.planning.fit_messages import HandlingTimes
from edge_partition.planning.fleet import Device, Fleet, equal_fleet
from edge_partition.planning.plan import Plan, PlannedStage
from edge_partition.planning.plan_split import plan_split
from edge_partition.planning.stage_memory import AGENT_RAM_BYTES
from edge_partition.planning.stage_times import StageTimes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.tflite.graph import Graph, Wire

SVG = "{http://www.w3.org/2000/svg}"
MIB = 2**20
GRAPH = replace(random_graph(seeded(9), 40), cuts=tuple(range(1, 40)))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def measured(graph: Graph, device: Device) -> Device:
    """Return a board with measured times: half of them belong to no operator."""
    work = operator_work_macs(graph)
    before_ns = [round(sum(work[:end]) / device.speed_gmac_s) for end in range(len(work) + 1)]
    fixed_ns = before_ns[-1] // 4
    timed_ns = ((0, len(work)), before_ns[-1] + 2 * fixed_ns)
    times = StageTimes(tuple(before_ns), fixed_ns, 0.5, (timed_ns,))
    handling = HandlingTimes(0.349, 0.1)
    return replace(device, stage_times=times, handling=handling, link_source="measured")


def any_plan(graph: Graph, *stages: tuple[Sequence[Device], int, int]) -> Plan:
    """Return a plan without the planner's rules: replicas may differ, a board may repeat."""
    return Plan(
        "throughput",
        graph,
        tuple(
            PlannedStage(
                tuple(devices),
                start,
                stop,
                tuple(stage_cost(graph, device, start, stop) for device in devices),
            )
            for devices, start, stop in stages
        ),
        ("float32",) * (len(stages) - 1),
    )


def unequal_boards(count: int, *, are_measured: bool) -> list[Device]:
    devices = [
        Device(f"board-{index}", speed_gmac_s=4.0 + 3 * index, ram_mib=100 * (index + 1))
        for index in range(count)
    ]
    return [measured(GRAPH, device) for device in devices] if are_measured else devices


def all_plans() -> list[Plan]:
    """Return plans of 1 to 6 stages, estimated and measured, and with all kinds of replicas."""
    plans = []
    for are_measured in (False, True):
        boards = unequal_boards(6, are_measured=are_measured)
        plans += [plan_split(GRAPH, Fleet(tuple(boards)), stages=count) for count in range(1, 7)]
        plans.append(any_plan(GRAPH, (boards[:3], 0, 12), (boards[3:], 12, 40)))
        plans.append(
            any_plan(GRAPH, (boards[:1], 0, 8), (boards[1:4], 8, 30), (boards[:1], 30, 40))
        )
        twins = [replace(boards[0], name=f"twin{index}") for index in range(3)]
        plans.append(any_plan(GRAPH, ([*twins, boards[5]], 0, 20), (boards[1:2], 20, 40)))
    return plans


PLANS = all_plans()


def names_of(plan: Plan) -> str:
    stages = "-".join(
        "+".join(device.name[-1] for device in stage.devices) for stage in plan.stages
    )
    return f"{plan.stages[0].cost.invoke_source}-{stages}"


every_plan = pytest.mark.parametrize("plan", PLANS, ids=map(names_of, PLANS))


def in_ms(words: str) -> float:
    figure, unit = words.removeprefix("< ").split()
    return float(figure.replace(",", "")) * {"ms": 1, "s": 1000}[unit]


def cards(picture: str) -> list[list[str]]:
    """Return the texts of each card: names, stage, role, and pairs of label and figure."""
    words = texts(picture)
    starts = [index - 1 for index, word in enumerate(words) if re.match(r"stage \d+: oper", word)]
    ends = [*starts[1:], len(words)]
    return [words[start:end] for start, end in zip(starts, ends, strict=True)]


def figure(card: list[str], label: str) -> str:
    return card[card.index(label) + 1]


@every_plan
def test_the_bars_of_each_stage_add_up_to_the_time_on_its_slowest_card(plan: Plan) -> None:
    picture = draw_plan(plan)
    root = ET.fromstring(picture)  # noqa: S314
    stages = [group for group in root.findall(f"{SVG}g") if group.get("fill")]
    heights = [
        [float(bar.get("height", "")) for bar in stage.iter(f"{SVG}rect") if bar.get("class")]
        for stage in stages
    ]
    assert [len(bars) for bars in heights] == [stage.stop - stage.start for stage in plan.stages]
    (axis,) = (word for word in texts(picture) if word.startswith("time per operator"))
    ms_per_pixel = in_ms(axis.rpartition("up to ")[2]) / max(map(max, heights))
    shown_ms: dict[int, float] = {}
    for card in cards(picture):
        stage = int(card[1].split()[1].rstrip(":"))
        shown_ms[stage] = max(shown_ms.get(stage, 0), in_ms(figure(card, "compute")))
    added_ms = [sum(bars) * ms_per_pixel for bars in heights]
    assert added_ms == pytest.approx([shown_ms[index] for index in range(len(stages))], rel=0.02)


@every_plan
def test_each_board_of_a_stage_shows_its_own_times_and_memory(plan: Plan) -> None:
    found = {
        (name, int(card[1].split()[1].rstrip(":"))): card
        for card in cards(draw_plan(plan))
        for name in card[0].split(", ")
    }
    served = [device.name for stage in plan.stages for device in stage.devices]
    assert len(found) == len(served)
    for index, stage in enumerate(plan.stages):
        for device, cost in zip(stage.devices, stage.costs, strict=True):
            card = found[device.name, index]
            assert figure(card, "compute") == svg.milliseconds(cost.invoke_ms)
            assert figure(card, "messages") == svg.milliseconds(cost.handling_ms)
            assert figure(card, "link") == svg.milliseconds(cost.transfer_ms)
            assert figure(card, "RAM").endswith(f" of {device.ram_mib:g} MiB")
            assert any(word.startswith("also stage") for word in card) == (
                served.count(device.name) > 1
            )


def boxes(picture: str) -> list[tuple[float, float, float, float, str]]:
    """Return the place of each text, for a font that is wider than most."""
    found = []
    for text in ET.fromstring(picture).iter(f"{SVG}text"):  # noqa: S314
        x, y, size = (float(text.get(key, "")) for key in ("x", "y", "font-size"))
        width = len(text.text or "") * size * 0.6
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor", "")]
        found.append((left, y - 0.8 * size, left + width, y + 0.2 * size, text.text or ""))
    return found


@every_plan
def test_no_text_is_printed_over_another_or_off_the_page(plan: Plan) -> None:
    picture = draw_plan(plan)
    width = float(ET.fromstring(picture).get("width", ""))  # noqa: S314
    for left, _, right, _, words in boxes(picture):
        assert 0 <= left < right <= width, words
    for one, other in itertools.combinations(boxes(picture), 2):
        assert (
            one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        ), (one[4], other[4])


@every_plan
def test_every_figure_has_a_unit_and_three_digits_at_most(plan: Plan) -> None:
    time = r"(< 0\.01 ms|\d[\d.]* (ms|s))"
    for card in cards(draw_plan(plan)):
        for label in ("compute", "messages", "link"):
            assert re.fullmatch(time, figure(card, label))
            assert len(figure(card, label).split()[-2].replace(".", "").lstrip("0")) <= 3
        assert re.fullmatch(r"[\d.]+ of [\d.]+ (MiB|GiB)", figure(card, "RAM"))


def test_the_memory_of_a_board_in_two_stages_counts_its_agent_once() -> None:
    first, other = unequal_boards(2, are_measured=False)
    plan = any_plan(GRAPH, ([first], 0, 8), ([other], 8, 30), ([first], 30, 40))
    ram_bytes = plan.stages[0].cost.ram_bytes + plan.stages[2].cost.ram_bytes - AGENT_RAM_BYTES
    shown = [figure(card, "RAM") for card in cards(draw_plan(plan)) if card[0] == first.name]
    assert shown == [f"{ram_bytes / MIB:.0f} of 100 MiB"] * 2
    assert any(word.startswith("40 operators on 2 boards,") for word in texts(draw_plan(plan)))


def test_replicas_show_their_share_of_the_requests_by_their_speed() -> None:
    slow, fast = (Device(name, speed_gmac_s=speed) for name, speed in (("slow", 4), ("fast", 12)))
    words = texts(draw_plan(any_plan(GRAPH, ([slow, fast], 0, 40))))
    assert "25% of the requests" in words
    assert "75% of the requests" in words


@pytest.mark.parametrize(
    ("value_ms", "words"),
    [
        (0, "0.00 ms"), (0.000303, "< 0.01 ms"), (0.0376, "0.04 ms"), (2.5, "2.50 ms"),
        (9.996, "10.0 ms"), (99.96, "100 ms"), (999.4, "999 ms"), (999.6, "1 s"), (12345, "12.3 s"),
    ],
)  # fmt: skip
def test_times_have_three_digits_and_no_more_than_a_plan_can_know(
    value_ms: float, words: str
) -> None:
    assert svg.milliseconds(value_ms) == words


def test_sizes_share_a_unit() -> None:
    assert svg.mebibytes(69.7, 512) == "70 of 512 MiB"
    assert svg.mebibytes(69.7, 8192) == "0.07 of 8 GiB"


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
    bars = [bar for bar in root.iter(f"{SVG}g") if bar.find(f"{SVG}title") is not None]
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
    assert sum(spans[-1]) <= 900


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
    assert max(x + width for x, _, width in labels) <= 900


def test_only_float16_boundaries_are_labelled_float16() -> None:
    graph = replace(random_graph(seeded(9), 12), cuts=tuple(range(1, 12)))
    plain = texts(draw_plan(plan_split(graph, equal_fleet(3), stages=3)))
    assert not any("f16" in word or "float16" in word for word in plain)
    narrow = texts(draw_plan(plan_split(graph, equal_fleet(3), stages=3, wire="float16")))
    assert sum(word.endswith("B f16") for word in narrow) == 2


def test_unused_boards_are_named() -> None:
    graph = random_graph(seeded(9), 8)
    spare = Device("spare-board", speed_gmac_s=0.01)
    fleet = Fleet((Device("quick-board", speed_gmac_s=50), spare))
    words = texts(draw_plan(plan_split(graph, fleet, "latency")))
    assert "Not used: spare-board" in words
    alone = plan_split(graph, Fleet(fleet.devices[:1]), "latency")
    assert not any(word.startswith("Not used") for word in texts(draw_plan(alone)))


def test_equal_replicas_have_one_card() -> None:
    graph = replace(random_graph(seeded(9), 5), cuts=())
    plan = plan_split(graph, equal_fleet(3))
    assert [len(stage.devices) for stage in plan.stages] == [3]
    (card,) = cards(draw_plan(plan))
    assert card[0] == "board-0, board-1, board-2"
    assert card[2] == "33% of the requests each"
    assert figure(card, "RAM").endswith("MiB, no limit")


def test_replicas_whose_names_do_not_fit_are_counted() -> None:
    graph = replace(random_graph(seeded(9), 5), cuts=())
    fleet = Fleet(tuple(Device(f"{'gate-' * 24}{index}") for index in range(4)))
    words = texts(draw_plan(plan_split(graph, fleet)))
    assert any(word.startswith("gate-gate") and word.endswith("\u2026 + 3 more") for word in words)
