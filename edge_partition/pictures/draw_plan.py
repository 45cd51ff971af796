"""Draw a plan as an SVG picture: the model's operators, the cuts, and the boards."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from edge_partition.pictures import svg
from edge_partition.pictures.cut_labels import draw_cut_labels
from edge_partition.pictures.plan_cards import cards_height, draw_cards, plan_cards
from edge_partition.planning.operator_times import operator_times_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.planning.plan import Plan, PlannedStage

# The picture is about as wide as a README's column, so a README shows it without scaling.
_WIDTH, _MARGIN = 900, 28
_INNER = _WIDTH - 2 * _MARGIN
_FACT_WIDTH = 200
_BARS_TOP, _BARS_BASE = 152, 330
#: Height of the tallest bar, in pixels.
_TALLEST = _BARS_BASE - _BARS_TOP - 12


def draw_plan(plan: Plan) -> str:
    """Return an SVG document that shows how a plan cuts the model and what each board does.

    The upper half is the model, with one bar for each operator in execution order. A bar's height
    is the operator's time on the stage's slowest board, and its colour is the stage's colour. The
    times of a stage's bars add up to the time of one inference of the stage. Each cut has a label
    with the bytes that one request sends across the cut.

    The lower half has a card for each board, with the board's times, memory and memory limit.
    Replicas with equal figures share a card. If a board limits the throughput, its card is marked,
    unless all boards limit the throughput equally.

    Args:
        plan: The plan.
    """
    labels, labels_base = draw_cut_labels(plan, _MARGIN, _INNER, _BARS_TOP - 6, _BARS_BASE + 10)
    cards, cards_top = plan_cards(plan), labels_base + 20
    height = cards_top + cards_height(cards) + (62 if plan.unused else 36)
    title = (
        f"{plan.graph_name} on {_boards(plan)}: {svg.number(plan.throughput_per_s)} "
        "requests per second"
    )
    parts = [
        *_heading(plan),
        *_operators(plan),
        *labels,
        *draw_cards(cards, _MARGIN, cards_top, _INNER),
        *_notes(plan, height),
    ]
    return svg.document(_WIDTH, height, title, _describe(plan), parts)


def _boards(plan: Plan) -> str:
    count = len({device.name for stage in plan.stages for device in stage.devices})
    return f"{count} board{'s' * (count > 1)}"


def _describe(plan: Plan) -> str:
    stages = "; ".join(
        f"operators {stage.start} to {stage.stop - 1} on {stage.board_names} in "
        f"{svg.milliseconds(_slowest_ms(stage))}"
        for stage in plan.stages
    )
    slowest = plan.stages[plan.slowest_stage]
    words = f"{stages}. The bottleneck is the stage on {slowest.board_names}."
    if plan.unused:
        words += f" Not used: {', '.join(device.name for device in plan.unused)}."
    return words


def _slowest_ms(stage: PlannedStage) -> float:
    """Return the time of one inference on the stage's slowest board, in milliseconds."""
    return max(cost.invoke_ms for cost in stage.costs)


def _heading(plan: Plan) -> Iterator[str]:
    facts = [
        (svg.number(plan.throughput_per_s), "requests per second"),
        (svg.milliseconds(plan.latency_ms), "latency of one request"),
    ]
    room = _INNER - len(facts) * _FACT_WIDTH
    yield svg.text(_MARGIN, 50, svg.fit(plan.graph_name, room, 28, bold=True), 28, weight=700)
    words = f"{len(plan.graph.operators)} operators on {_boards(plan)}, best {plan.objective}"
    yield svg.text(_MARGIN, 78, svg.fit(words, room, 15), 15, colour=svg.MUTED)
    yield svg.text(_MARGIN, 100, _origin(plan), 15, colour=svg.MUTED)
    for position, (figure, caption) in enumerate(facts):
        x = _WIDTH - _MARGIN - _FACT_WIDTH * position
        yield svg.text(x, 50, figure, 28, weight=700, anchor="end")
        yield svg.text(x, 78, caption, 15, colour=svg.MUTED, anchor="end")


def _origin(plan: Plan) -> str:
    """Return a line of text that says how the times were found, and how many cuts have float16."""
    sources = {
        source
        for stage in plan.stages
        for cost in stage.costs
        for source in (cost.invoke_source, cost.handling_source, cost.link_source)
    }
    words = f"predicted from {' and '.join(sorted(sources, reverse=True))} times"
    narrow = plan.wires.count("float16")
    if narrow == len(plan.wires) > 0:
        words += ", float16 (f16) at all cuts"
    elif narrow:
        words += f", float16 (f16) at {narrow} of {len(plan.wires)} cuts"
    return words


def _operators(plan: Plan) -> Iterator[str]:
    unit = _INNER / len(plan.graph.operators)
    times_ms = [time_ms for stage in plan.stages for time_ms in _bar_times_ms(plan, stage)]
    tallest_ms = max(times_ms) or 1
    for index, stage in enumerate(plan.stages):
        x, width = _MARGIN + stage.start * unit, (stage.stop - stage.start) * unit
        yield (
            f'<rect x="{x:.1f}" y="{_BARS_TOP}" width="{width:.1f}" '
            f'height="{_BARS_BASE - _BARS_TOP}" fill="{svg.colour(index)}" opacity="0.08"/>'
        )
        yield f'<g fill="{svg.colour(index)}">'
        for position in range(stage.start, stage.stop):
            operator, time_ms = plan.graph.operators[position], times_ms[position]
            hint = f"{position}: {operator.kind} {operator.layer}, {svg.milliseconds(time_ms)}"
            bar = time_ms / tallest_ms * _TALLEST
            left = _MARGIN + position * unit
            # A bar can be too short to point at, so a transparent column of full height shows the
            # hint too.
            yield (
                f"<g><title>{escape(hint)}</title>"
                f'<rect x="{left:.2f}" y="{_BARS_TOP}" width="{unit:.2f}" '
                f'height="{_BARS_BASE - _BARS_TOP}" fill-opacity="0"/>'
                f'<rect class="bar" x="{left + 0.1 * unit:.2f}" y="{_BARS_BASE - bar:.2f}" '
                f'width="{0.8 * unit:.2f}" height="{bar:.2f}"/></g>'
            )
        yield "</g>"
    yield f'<path d="M{_MARGIN} {_BARS_BASE}H{_WIDTH - _MARGIN}" stroke="{svg.INK}"/>'
    words = f"time per operator, up to {svg.milliseconds(tallest_ms)}"
    yield svg.text(_MARGIN, _BARS_TOP - 14, words, 13, colour=svg.MUTED)


def _bar_times_ms(plan: Plan, stage: PlannedStage) -> list[float]:
    """Return each operator's time on the stage's slowest board, in milliseconds."""
    stage_ms = _slowest_ms(stage)
    slowest = next(
        device
        for device, cost in zip(stage.devices, stage.costs, strict=True)
        if cost.invoke_ms == stage_ms
    )
    return operator_times_ms(plan.graph, slowest, stage.start, stage.stop, stage_ms)


def _notes(plan: Plan, height: float) -> Iterator[str]:
    if plan.unused:
        names = (device.name for device in plan.unused)
        words = "Not used: " + svg.fit_names(names, _INNER - 90, 15, bold=True)
        yield svg.text(_MARGIN, height - 44, words, 15, weight=600)
    is_unequal = any(
        cost.invoke_ms < _slowest_ms(stage) for stage in plan.stages for cost in stage.costs
    )
    on = "its stage's slowest board" if is_unequal else "its board"
    notes = f"Each bar is an operator, its height the time on {on}. Dashed lines are cuts."
    yield svg.text(_MARGIN, height - 18, notes, 13, colour=svg.MUTED)
