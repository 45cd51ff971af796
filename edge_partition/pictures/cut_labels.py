"""Draw a plan's cuts as dashed lines. Labels show the bytes that one request sends across a cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.pictures import svg

if TYPE_CHECKING:
    from edge_partition.planning.plan import Plan

_HEIGHT, _GAP, _SIZE = 26, 6, 14
#: Least distance in ``x`` between the centres of neighbouring labels in different rows, in pixels.
_LINE_GAP = 20


def draw_cut_labels(
    plan: Plan, left: float, width: float, line_top: float, line_base: float
) -> tuple[list[str], float]:
    """Draw a line and a label for the model's input, for each cut and for the model's output.

    If one row is too short for all labels, the labels are in several rows. All lengths are in
    pixels.

    Args:
        plan: The plan.
        left: x of the first operator's left edge.
        width: Width of all operators together.
        line_top: y of each line's upper end.
        line_base: y at which each line bends toward its label.

    Returns:
        The SVG elements of the lines and labels, and the y of the lower end of the rows.
    """
    unit = width / plan.stages[-1].stop
    crossings = _crossings(plan)
    at_x = [left + position * unit for position, _ in crossings]
    widths = [svg.text_width(label, _SIZE, bold=True) + 14 for _, label in crossings]
    rows = -(-sum(each + _GAP for each in widths) // (width + 16))
    rows = max(1, int(rows))
    label_x = _spread(at_x, widths, rows, left - 8, left + width + 8)
    lines, labels = [], []
    top = line_base + 20
    for index, (x, centre, each) in enumerate(zip(at_x, label_x, widths, strict=True)):
        y = top + index % rows * (_HEIGHT + _GAP)
        lines.append(
            f'<path d="M{x:.1f} {line_top:g}V{line_base:g}L{centre:.1f} {top:g}V{y:g}" fill="none" '
            f'stroke="{svg.INK}" stroke-width="1.5" stroke-dasharray="4 3"/>'
        )
        labels.append(
            f'<rect x="{centre - each / 2:.1f}" y="{y:g}" width="{each:.1f}" height="{_HEIGHT}" '
            f'rx="13" fill="#ffffff" stroke="{svg.INK}"/>'
        )
        words = crossings[index][1]
        labels.append(svg.text(centre, y + 18, words, _SIZE, anchor="middle", weight=600))
    return lines + labels, top + rows * (_HEIGHT + _GAP)


def _crossings(plan: Plan) -> list[tuple[int, str]]:
    """Return (position, label text) for the model's input, for each cut and for the output.

    A position is the number of operators before it. A label ends with ``f16`` if activations
    cross the cut as float16.
    """
    found = [(0, f"in {svg.size(plan.stages[0].cost.in_bytes)}")]
    for stage, wire in zip(plan.stages, (*plan.wires, ""), strict=True):
        crossing = svg.size(stage.cost.out_bytes)
        narrow = " f16" * (wire == "float16")
        found.append((stage.stop, f"{'' if wire else 'out '}{crossing}{narrow}"))
    return found


def _spread(
    centres: list[float], widths: list[float], rows: int, first: float, last: float
) -> list[float]:
    """Move labels apart so that labels in the same row do not overlap.

    Label ``index`` is in row ``index % rows``. Labels in different rows may have overlapping ranges
    of x. All centres keep their order, so the lines to the labels do not cross. A pass from left to
    right moves labels to the right. Then a pass from right to left moves labels to the left.

    Args:
        centres: Wanted x of each label's centre, ascending, in pixels.
        widths: Width of each label, in pixels.
        rows: Number of rows.
        first: Least x of a label's left edge, in pixels.
        last: Largest x of a label's right edge, in pixels.

    Returns:
        The x of each label's centre, in pixels.
    """

    def apart(index: int, before: int) -> float:
        if index - before < rows:
            return _LINE_GAP * (index - before)
        return (widths[before] + widths[index]) / 2 + _GAP

    placed = list(centres)
    indexes = range(len(placed))
    for index in indexes:
        least = [placed[old] + apart(index, old) for old in (index - 1, index - rows) if old >= 0]
        placed[index] = max(placed[index], first + widths[index] / 2, *least)
    for index in reversed(indexes):
        most = [placed[new] - apart(new, index) for new in (index + 1, index + rows)
                if new < len(placed)]  # fmt: skip
        placed[index] = min(placed[index], last - widths[index] / 2, *most)
    return placed
