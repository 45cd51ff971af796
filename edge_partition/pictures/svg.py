"""What all SVG pictures share: colours, text, numbers and the document itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The colours of stages, after Okabe & Ito. Colour-blind readers can tell these colours apart. They
#: are dark enough for white text.
COLOURS = (
    "#0072b2", "#d55e00", "#007a5a", "#a8447f", "#3b4a9c", "#8a6100", "#5b2a86", "#2f6f73",
)  # fmt: skip
INK, MUTED, RULE, ALARM = "#1b1f24", "#59636e", "#d1d9e0", "#b3261e"
#: Mean width of a character of a sans-serif font, as a fraction of the font size.
_CHARACTER_WIDTH, _BOLD_CHARACTER_WIDTH = 0.56, 0.64


def document(
    width: float, height: float, title: str, description: str, parts: Iterable[str]
) -> str:
    """Return an SVG document with the elements ``parts``.

    ``width`` and ``height`` are in pixels. ``title`` and ``description`` are for screen readers.
    """
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
    """Return the SVG element of a line of text.

    Args:
        x: x of the part of the text that ``anchor`` names, in pixels.
        y: y of the baseline, in pixels.
        words: The text.
        size: Font size, in pixels.
        colour: Colour of the text.
        weight: Font weight: 400 is normal, 700 is bold.
        anchor: The part of the text that is at ``x``: ``start``, ``middle`` or ``end``.
    """
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def colour(index: int) -> str:
    """Return the colour of stage ``index``."""
    return COLOURS[index % len(COLOURS)]


def text_width(words: str, size: int, *, bold: bool = False) -> float:
    """Return an estimate of a text's width in pixels."""
    return len(words) * size * (_BOLD_CHARACTER_WIDTH if bold else _CHARACTER_WIDTH)


def fit(words: str, width: float, size: int, *, bold: bool = False) -> str:
    """Return ``words``, or their start and ``…`` if they are wider than ``width`` pixels."""
    most = max(1, int(width / (text_width("x", size, bold=bold) * 1.06)))
    return words if len(words) <= most else words[: most - 1] + "\u2026"


def fit_names(names: Iterable[str], width: float, size: int, *, bold: bool = False) -> str:
    """Return as many names as fit into ``width`` pixels, such as ``pi-1, pi-2 + 3 more``.

    The text has at least one name. If not even one name fits, the first name is shortened.
    """
    listed = list(names)
    rest = ""
    for shown in range(len(listed), 0, -1):
        others = len(listed) - shown
        rest = f" + {others} more" if others else ""
        words = ", ".join(listed[:shown]) + rest
        if fit(words, width, size, bold=bold) == words:
            return words
    if not listed:
        return ""
    room = width - text_width(rest, size, bold=bold) * 1.06
    return fit(listed[0], room, size, bold=bold) + rest


def number(value: float) -> str:
    """Return a number as text with three significant digits, such as ``1,230`` or ``0.123``."""
    short = f"{value:.3g}"
    return f"{float(short):,.0f}" if value >= 100 else short  # noqa: PLR2004


def milliseconds(value: float) -> str:
    """Return a time as text, in ms if the time is below 1000 ms, else in s.

    The text has three significant digits. A time in ms has at most two decimals.
    """
    if value >= 999.5:  # noqa: PLR2004
        return f"{number(value / 1000)} s"
    if 0 < value < 0.005:  # noqa: PLR2004
        return "< 0.01 ms"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0  # noqa: PLR2004
    return f"{value:.{decimals}f} ms"


def mebibytes(*sizes_mib: float) -> str:
    """Return sizes as text in the same unit, such as ``70 of 512 MiB`` or ``0.07 of 1.5 GiB``.

    The arguments are in MiB.
    """
    if max(sizes_mib) < 999.5:  # noqa: PLR2004
        return f"{' of '.join(f'{size_mib:.0f}' for size_mib in sizes_mib)} MiB"
    return f"{' of '.join(number(round(size_mib / 1024, 2)) for size_mib in sizes_mib)} GiB"


def size(size_bytes: int) -> str:
    """Return a size as text in B, kB or MB, where 1 kB is 1000 bytes."""
    for unit, scale in (("MB", 1_000_000), ("kB", 1000)):
        if size_bytes >= scale:
            return f"{number(size_bytes / scale)} {unit}"
    return f"{size_bytes} B"
