"""Shared parts of the pictures: colours, text, numbers, the SVG document."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Colours after Okabe & Ito, which colour-blind readers can tell apart, dark enough for white text.
COLOURS = (
    "#0072b2", "#d55e00", "#007a5a", "#a8447f", "#3b4a9c", "#8a6100", "#5b2a86", "#2f6f73",
)  # fmt: skip
INK, MUTED, RULE, ALARM = "#1b1f24", "#59636e", "#d1d9e0", "#b3261e"
#: Mean width of a character of a sans-serif font, as a fraction of the font size.
_CHARACTER_WIDTH = 0.56


def document(
    width: float, height: float, title: str, description: str, parts: Iterable[str]
) -> str:
    """Return an SVG document; ``title`` and ``description`` are for screen readers."""
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width:g} {height:g}",
        "width": f"{width:g}",
        "height": f"{height:g}",
        "role": "img",
        "aria-labelledby": "title description",
        "font-family": "Inter, Segoe UI, Helvetica Neue, Arial, DejaVu Sans, sans-serif",
    }
    lines = [
        "<svg " + " ".join(f'{key}="{value}"' for key, value in attributes.items()) + ">",
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def text(
    x: float,
    y: float,
    words: str,
    size: int,
    *,
    colour: str = INK,
    weight: int = 400,
    anchor: str = "start",
) -> str:
    """Return a line of text whose baseline is at ``y``."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def colour(index: int) -> str:
    """Return the colour of the stage with this index."""
    return COLOURS[index % len(COLOURS)]


def text_width(words: str, size: int) -> float:
    """Return an estimate of a text's width in pixels."""
    return len(words) * size * _CHARACTER_WIDTH


def fit(words: str, width: float, size: int) -> str:
    """Shorten ``words`` to fit into ``width`` pixels."""
    most = int(width / (size * _CHARACTER_WIDTH * 1.06))
    return words if len(words) <= most else words[: most - 1] + "\u2026"


def fit_names(names: Iterable[str], width: float, size: int) -> str:
    """Join the names that fit into ``width`` pixels, at least one, and count the others."""
    listed = list(names)
    rest = ""
    for shown in range(len(listed), 0, -1):
        others = len(listed) - shown
        rest = f" + {others} more" if others else ""
        words = ", ".join(listed[:shown]) + rest
        if fit(words, width, size) == words:
            return words
    if not listed:
        return ""
    return fit(listed[0], width - text_width(rest, size) * 1.06, size) + rest


def number(value: float) -> str:
    """Return a number with three significant digits, or all digits before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004


def size(size_bytes: int) -> str:
    """Return a size in B, kB or MB (decimal)."""
    for unit, scale in (("MB", 1_000_000), ("kB", 1000)):
        if size_bytes >= scale:
            return f"{number(size_bytes / scale)} {unit}"
    return f"{size_bytes} B"
