"""Bar charts and line panels of measured figures, as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from edge_partition.pictures import svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDTH, _LEFT, _RIGHT = 800, 64, 776
_TICKS = 5
_SHARE_OF_GROUP = 0.8


@dataclass(frozen=True)
class Bar:
    """A measured figure.

    Attributes:
        group: Label under the bars of a group; may have several lines.
        series: Name of the bar's colour.
        value: Median.
        low: Lower quartile.
        high: Upper quartile.
        goal: Limit to draw across the bar; None: no limit.
    """

    group: str
    series: str
    value: float
    low: float
    high: float
    goal: float | None = None


def bar_chart(title: str, unit: str, bars: Sequence[Bar]) -> str:
    """Return an SVG with groups of bars, quartiles as whiskers, and goals as lines."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    series = list(dict.fromkeys(bar.series for bar in bars))
    named = [*series, *["goal"] * any(bar.goal for bar in bars)]
    top, base = _top(named), 400
    most = max(max(bar.high, bar.goal or 0) for bar in bars)
    step = _nice_step(most)
    highest = step * math.ceil(most / step)

    def at_y(value: float) -> float:
        return base - value / highest * (base - top)

    parts = [svg.text(28, 44, title, 24, weight=700)]
    parts += _legend(named)
    parts += _y_axis(at_y, step, highest)
    parts.append(svg.text(28, top - 14, unit, 16, weight=600))
    width = (_RIGHT - _LEFT) / len(groups)
    for place, group in enumerate(groups):
        left = _LEFT + width * (place + (1 - _SHARE_OF_GROUP) / 2)
        right = left + width * _SHARE_OF_GROUP
        one = (right - left) / len(series)
        for bar in (bar for bar in bars if bar.group == group):
            parts += _bar(bar, left + one * series.index(bar.series), one, at_y, series)
        for line, words in enumerate(group.split("\n")):
            y = base + 22 + 18 * line
            fitting = svg.fit(words, width, 12)
            parts.append(svg.text((left + right) / 2, y, fitting, 12, anchor="middle"))
    parts.append(f'<path d="M{_LEFT} {base}H{_RIGHT}" stroke="{svg.INK}"/>')
    description = "; ".join(f"{bar.group}, {bar.series}: {bar.value:.2f}" for bar in bars)
    return svg.document(_WIDTH, base + 56, title, description, parts)


def _bar(bar: Bar, x: float, width: float, at_y: Any, series: Sequence[str]) -> list[str]:
    y, base, wide = at_y(bar.value), at_y(0), width * 0.86
    words = f"{bar.value:.2f} ({bar.low:.2f} to {bar.high:.2f})"
    title = escape(f"{bar.group}, {bar.series}: {words}")
    parts = [
        (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{base - y:.1f}" '
            f'fill="{svg.colour(series.index(bar.series))}"><title>{title}</title></rect>'
        ),
        (
            f'<path d="M{x + wide / 2:.1f} {at_y(bar.low):.1f}V{at_y(bar.high):.1f}" '
            f'stroke="{svg.INK}"/>'
        ),
    ]
    if bar.goal is not None:
        parts.append(
            f'<path d="M{x:.1f} {at_y(bar.goal):.1f}h{wide:.1f}" stroke="{svg.ALARM}" '
            f'stroke-width="3"><title>goal: {bar.goal:g}</title></path>'
        )
    return parts


def line_panels(
    title: str, unit: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
) -> str:
    """Return an SVG with one panel of lines for each key, all on one scale upwards.

    Args:
        title: Title of the picture.
        unit: What the values are.
        panels: Lines by name, by the panel's label: points (share of the panel's width, value).
    """
    series = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    values = [y for lines in panels.values() for line in lines.values() for _, y in line]
    top, base = _top(series), 400
    most, least = max(*values, 1.0), min(*values, 0.0)
    step = _nice_step(most - least)
    highest, lowest = step * math.ceil(most / step), step * math.floor(least / step)

    def at_y(value: float) -> float:
        return base - (value - lowest) / (highest - lowest) * (base - top)

    parts = [svg.text(28, 44, title, 24, weight=700), *_legend(series)]
    parts += _y_axis(at_y, step, highest, lowest)
    parts.append(svg.text(28, top - 14, unit, 16, weight=600))
    width = (_RIGHT - _LEFT) / len(panels)
    for place, (label, lines) in enumerate(panels.items()):
        left, wide = _LEFT + width * place + 6, width - 12
        for name, line in lines.items():
            path = "L".join(f"{left + x * wide:.1f} {at_y(y):.1f}" for x, y in line)
            colour = svg.colour(series.index(name))
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<path d="M{left:.1f} {base}h{wide:.1f}" stroke="{svg.INK}"/>')
        words = svg.fit(label, width, 15)
        parts.append(svg.text(left + wide / 2, base + 24, words, 15, anchor="middle"))
    return svg.document(_WIDTH, base + 48, title, f"{unit}: {', '.join(panels)}", parts)


def _top(named: Sequence[str]) -> float:
    """Return the top of the axis, below a legend of these names."""
    return 104 + 26 * ((len(named) + 1) // 2)


def _legend(series: Sequence[str]) -> list[str]:
    parts = []
    for index, name in enumerate(series):
        x, y = 34 + 370 * (index % 2), 78 + 26 * (index // 2)
        colour = svg.ALARM if name == "goal" else svg.colour(index)
        parts.append(f'<circle cx="{x}" cy="{y - 6}" r="6" fill="{colour}"/>')
        parts.append(svg.text(x + 16, y, name, 16))
    return parts


def _y_axis(at_y: Any, step: float, highest: float, lowest: float = 0.0) -> list[str]:
    parts = []
    for number in range(round((highest - lowest) / step) + 1):
        value = lowest + number * step
        y = at_y(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="{svg.RULE}"/>')
        parts.append(svg.text(_LEFT - 10, y + 5, f"{value:g}", 15, colour=svg.MUTED, anchor="end"))
    return parts


def _nice_step(most: float) -> float:
    """Return a step of 1, 2 or 5 times a power of ten, with about five steps up to ``most``."""
    power = 10.0 ** math.floor(math.log10(most / _TICKS))
    return next(power * factor for factor in (1, 2, 5, 10) if most / (power * factor) <= _TICKS)
