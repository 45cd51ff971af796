"""Draw candidate plans for several numbers of boards as points: latency against throughput."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from edge_partition.pictures import svg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_partition.planning.compare_plans import Choice
    from edge_partition.planning.plan import Plan

# The picture is narrow and its type large, because a phone shows the picture at half its size.
_WIDTH, _MARGIN = 800, 28
_LEFT, _RIGHT, _TOP, _BASE = 92, _WIDTH - 40, 128, 560
_LABEL, _SMALL, _ROW = 17, 16, 50
_LIST_TOP = _BASE + 104
_ONE_BOARD, _FRONT = svg.COLOURS[1], svg.COLOURS[0]
#: An axis has a log scale if its largest value is more than this number times its smallest value.
_LOG_FROM = 12


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


class _Axis:
    """An axis of the picture. It converts values to pixels, and has ticks at round values."""

    def __init__(self, figures: Sequence[float], first: float, last: float) -> None:
        self._first, self._last = first, last
        self.is_log = max(figures) > _LOG_FROM * min(figures)
        if self.is_log:
            self._low, self._high = min(figures) / 1.2, max(figures) * 1.2
        else:
            self._low, self._high = 0.0, max(figures) * 1.08
        self.ticks = [tick for tick in self._round_figures() if self._low <= tick <= self._high]

    def at(self, figure: float) -> float:
        """Return the coordinate of a value on this axis, in pixels."""
        low, high = self._low, self._high
        if self.is_log:
            low, high, figure = math.log(low), math.log(high), math.log(figure)
        return self._first + (figure - low) / (high - low) * (self._last - self._first)

    def _round_figures(self) -> list[float]:
        if self.is_log:
            powers = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._high)) + 1)
            steps = (1, 2, 5) if len(powers) <= 4 else (1,)  # noqa: PLR2004
            return [step * 10.0**power for power in powers for step in steps]
        power = 10.0 ** math.floor(math.log10(self._high / 3))
        step = next(step for step in (1, 2, 5, 10) if self._high / (step * power) <= 7) * power  # noqa: PLR2004
        return [index * step for index in range(8)]


def draw_pareto(choices: Sequence[Choice]) -> str:
    """Return an SVG document with a point for each plan, at its throughput and latency.

    A line joins the plans that no other plan dominates (:class:`.Choice` defines "dominates").
    These plans have letters, and a list below the points shows their boards. The small points are
    dominated plans: for each number of boards, the plan with the highest throughput. For two or
    more boards, a dominated plan that was planned for latency is left out, because its additional
    boards only add latency. Plans on one board are diamonds.

    Args:
        choices: One plan or more, from :func:`.compare_plans`.
    """
    front = _front(choices)
    others = [
        choice.plan
        for choice in choices
        if not choice.is_on_front
        and (choice.plan.objective == "throughput" or choice.plan.boards == 1)
    ]
    shown = [*others, *front]
    x = _Axis([plan.throughput_per_s for plan in shown], _LEFT, _RIGHT)
    y = _Axis([plan.latency_ms for plan in shown], _BASE, _TOP)
    height = _LIST_TOP + _ROW * len(front) + 58
    name = front[0].graph_name
    parts = [*_heading(name, shown), *_axes(x, y), *_points(others, front, x, y), *_list(front)]
    notes = "Further right: more throughput. Lower: less latency. Predicted by edge-partition."
    parts.append(svg.text(_MARGIN, height - 20, notes, _SMALL, colour=svg.MUTED))
    title = f"{name}: latency against throughput for each number of boards"
    return svg.document(_WIDTH, height, title, _describe(front), parts)


def letter(index: int) -> str:
    """Return the letter of item ``index`` of a list: ``A`` to ``Z``, then ``A1`` to ``Z1``."""
    round_, place = divmod(index, 26)
    return chr(ord("A") + place) + (str(round_) if round_ else "")


def _front(choices: Sequence[Choice]) -> list[Plan]:
    """Return the plans that no other plan dominates, lowest latency first."""
    return sorted(
        (choice.plan for choice in choices if choice.is_on_front), key=lambda plan: plan.latency_ms
    )


def _describe(front: Sequence[Plan]) -> str:
    plans = "; ".join(
        f"{letter(index)}: {_figures(plan)} on {_boards(plan)} ({_names(plan)})"
        for index, plan in enumerate(front)
    )
    return f"Plans that no other plan dominates, lowest latency first: {plans}."


def _figures(plan: Plan) -> str:
    return f"{svg.number(plan.throughput_per_s)}/s, {svg.milliseconds(plan.latency_ms)}"


def _boards(plan: Plan) -> str:
    return f"{plan.boards} board{'s' * (plan.boards > 1)}"


def _names(plan: Plan) -> str:
    """Return the names of a plan's boards, with arrows between stages, ``+`` between replicas."""
    stages = (" + ".join(device.name for device in stage.devices) for stage in plan.stages)
    return " \u2192 ".join(stages)


def _heading(name: str, shown: Sequence[Plan]) -> Iterator[str]:
    yield svg.text(_MARGIN, 46, svg.fit(name, _WIDTH - 2 * _MARGIN, 28), 28, weight=700)
    most = max(shown, key=lambda plan: plan.boards)
    words = f"Plans on 1 to {_boards(most)}" if most.boards > 1 else "One board"
    yield svg.text(_MARGIN, 76, words, _LABEL, colour=svg.MUTED)


def _axes(x: _Axis, y: _Axis) -> Iterator[str]:
    yield f'<g stroke="{svg.RULE}">'
    for tick in x.ticks:
        yield f'<path d="M{x.at(tick):.1f} {_TOP}V{_BASE}"/>'
    for tick in y.ticks:
        yield f'<path d="M{_LEFT} {y.at(tick):.1f}H{_RIGHT}"/>'
    yield f'</g><path d="M{_LEFT} {_TOP}V{_BASE}H{_RIGHT}" fill="none" stroke="{svg.INK}"/>'
    for tick in x.ticks:
        yield svg.text(x.at(tick), _BASE + 24, f"{tick:,g}", _SMALL, colour=svg.MUTED,
                       anchor="middle")  # fmt: skip
    for tick in y.ticks:
        yield svg.text(_LEFT - 10, y.at(tick) + 6, f"{tick:,g}", _SMALL, colour=svg.MUTED,
                       anchor="end")  # fmt: skip
    scale = ", log scale"
    yield svg.text(_RIGHT, _BASE + 52, f"requests per second{scale * x.is_log}", _LABEL, weight=600,
                   anchor="end")  # fmt: skip
    yield svg.text(_MARGIN, _TOP - 18, f"latency in ms{scale * y.is_log}", _LABEL, weight=600)


def _points(others: Sequence[Plan], front: Sequence[Plan], x: _Axis, y: _Axis) -> Iterator[str]:
    def place(plan: Plan) -> tuple[float, float]:
        return x.at(plan.throughput_per_s), y.at(plan.latency_ms)

    line = [place(plan) for plan in front]
    path = "L".join(f"{at_x:.1f} {at_y:.1f}" for at_x, at_y in line)
    yield f'<path d="M{path}" fill="none" stroke="{_FRONT}" stroke-width="2.5" opacity="0.5"/>'
    marks, labels, taken = [], [], list(_along(line))
    for plans, radius in ((others, 5), (front, 8)):
        for plan in plans:
            at_x, at_y = place(plan)
            marks.append(_mark(plan, at_x, at_y, radius))
            taken.append(_Box(at_x - radius, at_y - radius, at_x + radius, at_y + radius))
    for index, plan in enumerate((*front, *others)):
        is_on_front = index < len(front)
        prefix = f"{letter(index)}: " * is_on_front
        font_size = _LABEL if is_on_front else _SMALL
        for words in (f"{prefix}{_boards(plan)}", f"{prefix}{plan.boards}"):
            at_x, at_y = place(plan)
            spot = _free_spot(at_x, at_y, words, font_size, taken)
            if spot is None:
                continue
            taken.append(spot)
            end_x = min(max(at_x, spot.left), spot.right)
            end_y = min(max(at_y, spot.top), spot.bottom)
            taken += _along([(at_x, at_y), (end_x, end_y)])
            yield f'<path d="M{at_x:.1f} {at_y:.1f}L{end_x:.1f} {end_y:.1f}" stroke="{svg.MUTED}"/>'
            labels.append(
                svg.text(
                    spot.left + 2,
                    spot.bottom - 5,
                    words,
                    font_size,
                    weight=600 if is_on_front else 400,
                    colour=svg.INK if is_on_front else svg.MUTED,
                )
            )
            break
    yield from marks
    yield from labels


def _along(line: Sequence[tuple[float, float]]) -> Iterator[_Box]:
    """Yield small boxes along a line. Labels that avoid the boxes do not cover the line."""
    for (x, y), (next_x, next_y) in pairwise(line):
        steps = max(1, round(math.dist((x, y), (next_x, next_y)) / 6))
        for step in range(steps):
            at_x, at_y = (x + (next_x - x) * step / steps, y + (next_y - y) * step / steps)
            yield _Box(at_x - 3, at_y - 3, at_x + 3, at_y + 3)


def _mark(plan: Plan, x: float, y: float, radius: int) -> str:
    """Return the SVG element of a plan's point, with a tooltip that names the plan's boards."""
    hint = f"<title>{escape(f'{_boards(plan)}: {_names(plan)}; {_figures(plan)}')}</title>"
    colour = _ONE_BOARD if plan.boards == 1 else _FRONT
    style = f'fill="{colour}" stroke="#ffffff" stroke-width="1.5"'
    if plan.boards == 1:
        wide = radius * 1.35
        points = f"{x:.1f},{y - wide:.1f} {x + wide:.1f},{y:.1f} {x:.1f},{y + wide:.1f} "
        return f'<polygon points="{points}{x - wide:.1f},{y:.1f}" {style}>{hint}</polygon>'
    if radius < 8:  # noqa: PLR2004
        style = f'fill="#ffffff" stroke="{colour}" stroke-width="2"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {style}>{hint}</circle>'


def _free_spot(
    x: float, y: float, words: str, font_size: int, taken: Sequence[_Box]
) -> _Box | None:
    """Return the box of a label near a point, or None if every box near the point is taken.

    Args:
        x: The point's x, in pixels.
        y: The point's y, in pixels.
        words: The label's text.
        font_size: Font size of the label, in pixels.
        taken: The boxes that the label must not cover.
    """
    width, height = svg.text_width(words, font_size) + 4, font_size + 4
    for distance in (11, 24, 40):
        for left, middle in (
            (x + distance, y), (x - distance - width, y),
            (x - width / 2, y - distance - height / 2), (x - width / 2, y + distance + height / 2),
            (x + distance * 0.7, y - distance), (x + distance * 0.7, y + distance),
            (x - distance * 0.7 - width, y - distance), (x - distance * 0.7 - width, y + distance),
        ):  # fmt: skip
            box = _Box(left, middle - height / 2, left + width, middle + height / 2)
            inside = box.left > _LEFT and box.right < _WIDTH and box.top > _TOP - 12
            if inside and box.bottom < _BASE and not any(box.overlaps(other) for other in taken):
                return box
    return None


def _list(front: Sequence[Plan]) -> Iterator[str]:
    heading = "Plans that no other plan dominates, lowest latency first"
    yield svg.text(_MARGIN, _LIST_TOP - 8, heading, _LABEL, weight=700)
    for index, plan in enumerate(front):
        y = _LIST_TOP + 22 + _ROW * index
        words = f"{_boards(plan)}, {_figures(plan)}"
        yield svg.text(_MARGIN, y, letter(index), _LABEL, weight=700, colour=_FRONT)
        yield svg.text(_MARGIN + 40, y, words, _LABEL, weight=600)
        names = svg.fit(_names(plan), _WIDTH - 2 * _MARGIN - 40, _SMALL)
        yield svg.text(_MARGIN + 40, y + 21, names, _SMALL, colour=svg.MUTED)
