"""A plan -> an SVG picture of the model, cut over the boards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from edge_partition.pictures import svg
from edge_partition.planning.cost_model import MIB, invoke_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.planning.plan import Plan, PlannedStage

_WIDTH, _MARGIN = 1200, 32
_BARS_TOP, _BARS_BASE = 132, 330
_PILLS_TOP, _PILL_HEIGHT, _PILL_GAP = 360, 26, 6
_CARDS_HEIGHT, _CARD_GAP = 176, 14
_MOST_CARDS_IN_A_ROW = 4


def draw_plan(plan: Plan) -> str:
    """Return an SVG document of the model cut over the boards.

    The upper half is the model: one bar for each operator in execution order. A bar's height is the
    operator's time on its board, and its colour is that of the stage. Each cut is labelled with
    the bytes that cross. The lower half has one card for each stage: times, and memory against the
    limit. The card of the slowest stage, the bottleneck, is marked.

    Args:
        plan: The plan.
    """
    boundaries, cards_top = _boundaries(plan)
    rows = -(-len(plan.stages) // _MOST_CARDS_IN_A_ROW)
    height = cards_top + rows * (_CARDS_HEIGHT + _CARD_GAP) + (68 if plan.unused else 44)
    title = (
        f"{plan.graph_name} on {plan.boards} board{'s' * (plan.boards > 1)}: "
        f"{svg.number(plan.throughput_per_s)} results per second"
    )
    parts = [*_heading(plan), *_operators(plan), *boundaries]
    for index in range(len(plan.stages)):
        parts.extend(_card(plan, index, cards_top))
    parts.extend(_notes(plan, height))
    return svg.document(_WIDTH, height, title, _describe(plan), parts)


def _describe(plan: Plan) -> str:
    stages = "; ".join(
        f"operators {stage.start} to {stage.stop - 1} on {stage.board_names} in "
        f"{svg.number(stage.cost.invoke_ms)} ms"
        for stage in plan.stages
    )
    words = (
        f"{stages}. {plan.stages[plan.slowest_stage].board_names}: that stage is the bottleneck."
    )
    if plan.unused:
        words += f" Not used: {', '.join(device.name for device in plan.unused)}."
    return words


def _heading(plan: Plan) -> Iterator[str]:
    count, narrow = plan.boards, plan.wires.count("float16")
    wire = ""
    if narrow:
        wire = ", float16 " + (
            "between them" if narrow == len(plan.wires) else f"over {narrow} of {len(plan.wires)}"
        )
    yield svg.text(_MARGIN, 50, svg.fit(plan.graph_name, 620, 28), 28, weight=700)
    yield svg.text(
        _MARGIN,
        78,
        f"{len(plan.graph.operators)} operators over {count} board{'s' * (count > 1)}, best "
        f"{plan.objective}{wire}",
        15,
        colour=svg.MUTED,
    )
    facts = [
        (svg.number(plan.throughput_per_s), "results per second"),
        (f"{svg.number(plan.latency_ms)} ms", "latency of one request"),
    ]
    for position, (figure, caption) in enumerate(facts):
        x = _WIDTH - _MARGIN - 190 * position
        yield svg.text(x, 50, figure, 28, weight=700, anchor="end")
        yield svg.text(x, 78, caption, 15, colour=svg.MUTED, anchor="end")


def _operators(plan: Plan) -> Iterator[str]:
    graph = plan.graph
    unit = (_WIDTH - 2 * _MARGIN) / len(graph.operators)
    times_ms = [
        invoke_ms(graph, slowest, index, index + 1)
        for stage in plan.stages
        for slowest in [stage.devices[stage.costs.index(stage.cost)]]
        for index in range(stage.start, stage.stop)
    ]
    tallest_ms = max(times_ms) or 1
    for index, stage in enumerate(plan.stages):
        x, width = _MARGIN + stage.start * unit, (stage.stop - stage.start) * unit
        yield (
            f'<rect x="{x:.1f}" y="{_BARS_TOP}" width="{width:.1f}" '
            f'height="{_BARS_BASE - _BARS_TOP}" fill="{svg.colour(index)}" opacity="0.08"/>'
        )
        yield f'<g fill="{svg.colour(index)}">'
        for position in range(stage.start, stage.stop):
            bar = max(2, times_ms[position] / tallest_ms * (_BARS_BASE - _BARS_TOP - 12))
            operator = graph.operators[position]
            hint = f"{position}: {operator.kind} {operator.layer}, {times_ms[position]:.2f} ms"
            yield (
                f'<rect x="{_MARGIN + (position + 0.1) * unit:.2f}" y="{_BARS_BASE - bar:.1f}" '
                f'width="{0.8 * unit:.2f}" height="{bar:.1f}"><title>{escape(hint)}</title></rect>'
            )
        yield "</g>"
    yield (
        f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{_BARS_BASE}" y2="{_BARS_BASE}" '
        f'stroke="{svg.INK}"/>'
    )
    yield svg.text(_MARGIN, _BARS_TOP - 12, f"time per operator, up to {tallest_ms:.1f} ms", 13,
                colour=svg.MUTED)  # fmt: skip


def _boundaries(plan: Plan) -> tuple[list[str], float]:
    """Return lines at the cuts, labels with the bytes that cross, and the y below both.

    The labels have as many rows as needed to keep them apart.
    """
    unit = (_WIDTH - 2 * _MARGIN) / plan.stages[-1].stop
    crossings = [(0, f"in {svg.size(plan.stages[0].cost.in_bytes)}")]
    for stage, wire in zip(plan.stages, (*plan.wires, ""), strict=True):
        crossing = svg.size(stage.cost.out_bytes)
        narrow = " float16" * (wire == "float16")
        crossings.append((stage.stop, f"{'' if wire else 'out '}{crossing}{narrow}"))
    at_x = [_MARGIN + position * unit for position, _ in crossings]
    widths = [svg.text_width(label, 14) + 16 for _, label in crossings]
    rows = -(-sum(width + _PILL_GAP for width in widths) // (_WIDTH - 2 * _MARGIN + 16))
    rows = max(1, int(rows))
    label_x = [0.0] * len(crossings)
    for row in range(rows):
        label_x[row::rows] = _spread(at_x[row::rows], widths[row::rows])
    lines, pills = [], []
    for index, (x, centre, width) in enumerate(zip(at_x, label_x, widths, strict=True)):
        y = _PILLS_TOP + index % rows * (_PILL_HEIGHT + _PILL_GAP)
        lines.append(
            f'<path d="M{x:.1f} {_BARS_TOP - 6}V{_BARS_BASE + 10}L{centre:.1f} {_PILLS_TOP}V{y}" '
            f'fill="none" stroke="{svg.INK}" stroke-width="1.5" stroke-dasharray="4 3"/>'
        )
        pills.append(
            f'<rect x="{centre - width / 2:.1f}" y="{y}" width="{width:.1f}" '
            f'height="{_PILL_HEIGHT}" rx="13" fill="#ffffff" stroke="{svg.INK}"/>'
        )
        pills.append(svg.text(centre, y + 18, crossings[index][1], 14, anchor="middle", weight=600))
    return lines + pills, _PILLS_TOP + rows * (_PILL_HEIGHT + _PILL_GAP) + 32


def _spread(centres: list[float], widths: list[float]) -> list[float]:
    """Return the centres in order, moved apart from the left edge, then from the right edge."""
    placed = list(centres)
    edge = _MARGIN - 8.0
    for index, width in enumerate(widths):
        placed[index] = max(placed[index], edge + width / 2)
        edge = placed[index] + width / 2 + _PILL_GAP
    edge = _WIDTH - _MARGIN + 8.0
    for index in reversed(range(len(widths))):
        placed[index] = min(placed[index], edge - widths[index] / 2)
        edge = placed[index] - widths[index] / 2 - _PILL_GAP
    return placed


def _card(plan: Plan, index: int, top: float) -> Iterator[str]:
    stage, colour = plan.stages[index], svg.colour(index)
    columns = min(len(plan.stages), _MOST_CARDS_IN_A_ROW)
    width = (_WIDTH - 2 * _MARGIN - _CARD_GAP * (columns - 1)) / columns
    row, column = divmod(index, _MOST_CARDS_IN_A_ROW)
    x = _MARGIN + column * (width + _CARD_GAP)
    y = top + row * (_CARDS_HEIGHT + _CARD_GAP)
    slowest = index == plan.slowest_stage and len(plan.stages) > 1
    yield (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_CARDS_HEIGHT}" rx="8" '
        f'fill="#ffffff" stroke="{svg.ALARM if slowest else svg.RULE}" '
        f'stroke-width="{2.5 if slowest else 1}"/>'
    )
    yield f'<rect x="{x + 16:.1f}" y="{y + 17}" width="14" height="14" rx="3" fill="{colour}"/>'
    names = [device.name for device in stage.devices]
    room = width - 54 - (100 if slowest else 0)
    yield svg.text(x + 38, y + 30, svg.fit_names(names, room, 17), 17, weight=700)
    if slowest:
        yield svg.text(x + width - 14, y + 30, "bottleneck", 13, colour=svg.ALARM, weight=700,
                    anchor="end")  # fmt: skip
    under = f"operators {stage.start} to {stage.stop - 1}"
    if len(stage.devices) > 1:
        under += f", {len(stage.devices)} boards in turn"
    boards = {device.board for device in stage.devices if device.board}
    if len(boards) == 1:
        longer = f"{under}, {boards.pop()}"
        under = longer if svg.fit(longer, width - 32, 13) == longer else under
    yield svg.text(x + 16, y + 52, svg.fit(under, width - 32, 13), 13, colour=svg.MUTED)
    replicas = len(stage.devices)
    full_ms = (plan.bottleneck_ms or 1) * replicas
    compute = (
        f"{svg.number(stage.cost.invoke_ms)} ms + {svg.number(stage.cost.handling_ms)} messages"
    )
    link = f"{svg.number(stage.cost.transfer_ms)} ms"
    if replicas > 1:
        compute, link = f"({compute}) / {replicas}", f"{link} / {replicas}"
    gauges = [
        ("compute", stage.cost.busy_ms / full_ms, compute),
        ("link", stage.cost.transfer_ms / full_ms, link),
        _ram(stage, width - 32),
    ]
    for line, (name, share, figure) in enumerate(gauges):
        yield from _gauge(
            x + 16,
            y + 82 + 34 * line,
            width - 32,
            colour=colour,
            name=name,
            share=share,
            figure=figure,
        )


def _gauge(
    x: float, y: float, width: float, *, colour: str, name: str, share: float, figure: str
) -> Iterator[str]:
    yield svg.text(x, y, name, 13, colour=svg.MUTED)
    yield svg.text(x + width, y, figure, 14, weight=600, anchor="end")
    yield f'<rect x="{x:.1f}" y="{y + 6}" width="{width:.1f}" height="7" rx="3.5" fill="#eaeef2"/>'
    if not share:
        return
    filled = max(7, width * min(share, 1))
    yield (
        f'<rect x="{x:.1f}" y="{y + 6}" width="{filled:.1f}" height="7" rx="3.5" fill="{colour}"/>'
    )


def _ram(stage: PlannedStage, width: float) -> tuple[str, float, str]:
    """Return the memory gauge of a stage's fullest board; a replica set's gauge names it."""
    device, cost = max(
        zip(stage.devices, stage.costs, strict=True),
        key=lambda board: board[1].ram_bytes / MIB / board[0].ram_mib,
    )
    needed_mib, limit_mib = cost.ram_bytes / MIB, device.ram_mib
    figure, share = f"{needed_mib:.0f} MiB, no limit", 0.0
    if limit_mib < math.inf:
        figure, share = f"{needed_mib:.0f} of {limit_mib:.0f} MiB", needed_mib / limit_mib
    if len(stage.devices) == 1:
        return "RAM", share, figure
    room = width - svg.text_width(f"RAM of {figure}", 14) - 12
    return f"RAM of {svg.fit(device.name, room, 13)}", share, figure


def _notes(plan: Plan, height: float) -> Iterator[str]:
    if plan.unused:
        names = (device.name for device in plan.unused)
        words = "Not used: " + svg.fit_names(names, _WIDTH - 2 * _MARGIN - 90, 15)
        yield svg.text(_MARGIN, height - 46, words, 15, weight=600)
    notes = "Each bar is an operator, its height the time on its board. Dashed lines are cuts."
    yield svg.text(_MARGIN, height - 20, notes, 13, colour=svg.MUTED)
    yield svg.text(_WIDTH - _MARGIN, height - 20, "predicted by edge-partition", 13,
                   colour=svg.MUTED, anchor="end")  # fmt: skip
