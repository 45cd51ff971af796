"""Plan x Graph -> a picture: the model cut over the boards, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from edge_partition.cost_model import MIB, stage_cost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.graph import Graph
    from edge_partition.plan_split import Plan, PlannedStage

#: Okabe & Ito's colours, told apart by colour-blind readers too, and dark enough to bear white.
_COLOURS = (
    "#0072b2", "#d55e00", "#007a5a", "#a8447f", "#3b4a9c", "#8a6100", "#5b2a86", "#2f6f73",
)  # fmt: skip
_INK, _MUTED, _RULE, _ALARM = "#1b1f24", "#59636e", "#d1d9e0", "#b3261e"
_WIDTH, _MARGIN = 1200, 32
_BARS_TOP, _BARS_BASE = 132, 330
_CARDS_TOP, _CARDS_HEIGHT, _CARD_GAP = 424, 176, 14
_MOST_CARDS_IN_A_ROW = 4
#: The mean width of a character of a sans-serif font, as a share of its size.
_CHARACTER_WIDTH = 0.56


def draw_plan(plan: Plan, graph: Graph) -> str:
    """Return an SVG document of the model cut over the boards.

    The upper half is the model: a bar an operator in execution order, its height the operator's
    share of time on its board, its colour the board's; at each cut the bytes that cross. The lower
    half has a card a board: times, and memory against the limit. The stage that sets the pace is
    marked.

    Args:
        plan: What to draw.
        graph: The model it was made for.
    """
    rows = -(-len(plan.stages) // _MOST_CARDS_IN_A_ROW)
    height = _CARDS_TOP + rows * (_CARDS_HEIGHT + _CARD_GAP) + 44
    title = (
        f"{plan.graph_name} on {len(plan.stages)} board{'s' * (len(plan.stages) > 1)}: "
        f"{_number(plan.throughput_per_s)} results a second"
    )
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {_WIDTH} {height}",
        "width": f"{_WIDTH}",
        "height": f"{height}",
        "role": "img",
        "aria-labelledby": "title description",
        "font-family": "Inter, Segoe UI, Helvetica Neue, Arial, DejaVu Sans, sans-serif",
    }
    parts = [
        "<svg " + " ".join(f'{key}="{value}"' for key, value in attributes.items()) + ">",
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(_describe(plan))}</desc>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_heading(plan, graph),
        *_operators(plan, graph),
        *_boundaries(plan),
    ]
    for index in range(len(plan.stages)):
        parts.extend(_card(plan, index))
    parts.extend(_legend(height))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _describe(plan: Plan) -> str:
    stages = "; ".join(
        f"{stage.device.name} runs operators {stage.start} to {stage.stop - 1} in "
        f"{_number(stage.cost.invoke_ms)} ms"
        for stage in plan.stages
    )
    slowest = plan.stages[plan.slowest_stage].device.name
    return f"{stages}. {slowest} sets the pace."


def _heading(plan: Plan, graph: Graph) -> Iterator[str]:
    count = len(plan.stages)
    yield _text(_MARGIN, 50, _fit(plan.graph_name, 620, 28), 28, weight=700)
    yield _text(
        _MARGIN,
        78,
        f"{len(graph.operators)} operators over {count} board{'s' * (count > 1)}, best "
        f"{plan.objective}{', float16 between them' * (plan.wire == 'float16')}",
        15,
        colour=_MUTED,
    )
    facts = [
        (_number(plan.throughput_per_s), "results a second"),
        (f"{_number(plan.latency_ms)} ms", "latency of one request"),
    ]
    for position, (figure, caption) in enumerate(facts):
        x = _WIDTH - _MARGIN - 190 * position
        yield _text(x, 50, figure, 28, weight=700, anchor="end")
        yield _text(x, 78, caption, 15, colour=_MUTED, anchor="end")


def _operators(plan: Plan, graph: Graph) -> Iterator[str]:
    unit = (_WIDTH - 2 * _MARGIN) / len(graph.operators)
    times_ms = [
        stage_cost(graph, stage.device, index, index + 1).invoke_ms
        for stage in plan.stages
        for index in range(stage.start, stage.stop)
    ]
    tallest_ms = max(times_ms) or 1
    for index, stage in enumerate(plan.stages):
        x, width = _MARGIN + stage.start * unit, (stage.stop - stage.start) * unit
        yield (
            f'<rect x="{x:.1f}" y="{_BARS_TOP}" width="{width:.1f}" '
            f'height="{_BARS_BASE - _BARS_TOP}" fill="{_colour(index)}" opacity="0.08"/>'
        )
        yield f'<g fill="{_colour(index)}">'
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
        f'stroke="{_INK}"/>'
    )
    yield _text(_MARGIN, _BARS_TOP - 12, f"ms an operator, up to {tallest_ms:.1f}", 13,
                colour=_MUTED)  # fmt: skip


def _boundaries(plan: Plan) -> Iterator[str]:
    """Mark where the model is cut, and what crosses; labels keep clear of each other."""
    operators = plan.stages[-1].stop
    unit = (_WIDTH - 2 * _MARGIN) / operators
    crossings = [(0, plan.stages[0].cost.in_bytes)]
    crossings += [(stage.stop, stage.cost.out_bytes) for stage in plan.stages]
    labels = [
        f"{'in ' * (at == 0)}{'out ' * (at == operators)}{_size(size_bytes)}"
        for at, size_bytes in crossings
    ]
    at_x = [_MARGIN + position * unit for position, _ in crossings]
    widths = [len(label) * 14 * _CHARACTER_WIDTH + 16 for label in labels]
    for x, label, width, label_x in zip(at_x, labels, widths, _spread(at_x, widths), strict=True):
        yield (
            f'<path d="M{x:.1f} {_BARS_TOP - 6}V{_BARS_BASE + 10}L{label_x:.1f} '
            f'{_BARS_BASE + 30}" fill="none" stroke="{_INK}" stroke-width="1.5" '
            'stroke-dasharray="4 3"/>'
        )
        yield (
            f'<rect x="{label_x - width / 2:.1f}" y="{_BARS_BASE + 30}" width="{width:.1f}" '
            f'height="26" rx="13" fill="#ffffff" stroke="{_INK}"/>'
        )
        yield _text(label_x, _BARS_BASE + 48, label, 14, anchor="middle", weight=600)


def _spread(centres: list[float], widths: list[float]) -> list[float]:
    """Move labels apart, from the left and then back from the right edge; order is kept."""
    placed = list(centres)
    edge = _MARGIN - 8.0
    for index, width in enumerate(widths):
        placed[index] = max(placed[index], edge + width / 2)
        edge = placed[index] + width / 2 + 6
    edge = _WIDTH - _MARGIN + 8.0
    for index in reversed(range(len(widths))):
        placed[index] = min(placed[index], edge - widths[index] / 2)
        edge = placed[index] - widths[index] / 2 - 6
    return placed


def _card(plan: Plan, index: int) -> Iterator[str]:
    stage, colour = plan.stages[index], _colour(index)
    columns = min(len(plan.stages), _MOST_CARDS_IN_A_ROW)
    width = (_WIDTH - 2 * _MARGIN - _CARD_GAP * (columns - 1)) / columns
    row, column = divmod(index, _MOST_CARDS_IN_A_ROW)
    x = _MARGIN + column * (width + _CARD_GAP)
    y = _CARDS_TOP + row * (_CARDS_HEIGHT + _CARD_GAP)
    slowest = index == plan.slowest_stage and len(plan.stages) > 1
    yield (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_CARDS_HEIGHT}" rx="8" '
        f'fill="#ffffff" stroke="{_ALARM if slowest else _RULE}" '
        f'stroke-width="{2.5 if slowest else 1}"/>'
    )
    yield f'<rect x="{x + 16:.1f}" y="{y + 17}" width="14" height="14" rx="3" fill="{colour}"/>'
    room = width - 54 - (100 if slowest else 0)
    yield _text(x + 38, y + 30, _fit(stage.device.name, room, 17), 17, weight=700)
    if slowest:
        yield _text(x + width - 14, y + 30, "sets the pace", 13, colour=_ALARM, weight=700,
                    anchor="end")  # fmt: skip
    under = f"operators {stage.start} to {stage.stop - 1}"
    if stage.device.board:
        under += f", {stage.device.board}"
    yield _text(x + 16, y + 52, _fit(under, width - 32, 13), 13, colour=_MUTED)
    longest_ms = max(
        max(other.cost.invoke_ms, other.cost.link_ms) for other in plan.stages
    ) or 1  # fmt: skip
    gauges = [
        ("compute", stage.cost.invoke_ms / longest_ms, f"{_number(stage.cost.invoke_ms)} ms"),
        ("link", stage.cost.link_ms / longest_ms, f"{_number(stage.cost.link_ms)} ms"),
        ("RAM", *_ram(stage)),
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
    yield _text(x, y, name, 13, colour=_MUTED)
    yield _text(x + width, y, figure, 14, weight=600, anchor="end")
    yield f'<rect x="{x:.1f}" y="{y + 6}" width="{width:.1f}" height="7" rx="3.5" fill="#eaeef2"/>'
    if not share:
        return
    filled = max(7, width * min(share, 1))
    yield (
        f'<rect x="{x:.1f}" y="{y + 6}" width="{filled:.1f}" height="7" rx="3.5" fill="{colour}"/>'
    )


def _ram(stage: PlannedStage) -> tuple[float, str]:
    needed_mib, limit_mib = stage.cost.ram_bytes / MIB, stage.device.ram_mib
    if limit_mib == float("inf"):
        return 0, f"{needed_mib:.0f} MiB, no limit"
    return needed_mib / limit_mib, f"{needed_mib:.0f} of {limit_mib:.0f} MiB"


def _legend(height: int) -> Iterator[str]:
    notes = "A bar is an operator, its height the time on its board; a dashed line is a cut."
    yield _text(_MARGIN, height - 20, notes, 13, colour=_MUTED)
    yield _text(_WIDTH - _MARGIN, height - 20, "predicted by edge-partition", 13, colour=_MUTED,
                anchor="end")  # fmt: skip


def _text(
    x: float,
    y: float,
    words: str,
    size: int,
    *,
    colour: str = _INK,
    weight: int = 400,
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _fit(words: str, width: float, size: int) -> str:
    """Shorten ``words`` to what ``width`` pixels hold."""
    most = int(width / (size * _CHARACTER_WIDTH * 1.06))
    return words if len(words) <= most else words[: most - 1] + "\u2026"


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004


def _size(size_bytes: int) -> str:
    for unit, scale in (("MB", 1_000_000), ("kB", 1000)):
        if size_bytes >= scale:
            return f"{_number(size_bytes / scale)} {unit}"
    return f"{size_bytes} B"
