"""The sentences and table rows that show measured boards. The functions are pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_partition.commands import _show
from edge_partition.planning.fit_messages import fit_handling, fit_link
from edge_partition.planning.stage_times import median_times_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_partition.profiling.profile_store import BoardProfile
    from edge_partition.tflite.graph import Graph

PROFILE_COLUMNS = (
    "board",
    ">whole model\nms",
    ">parts\ntimed",
    ">message\nms",
    ">link\nMbit/s",
    ">link\nms",
    ">°C",
    ">MHz",
    ">threads",
    ">cores",
    "runtime",
    "measured",
)


@dataclass(frozen=True)
class FoundProfile:
    """A board's profile, and whether this run of the command made the profile."""

    profile: BoardProfile
    measured_now: bool


def whole_model_ms(profile: BoardProfile, graph: Graph) -> float | None:
    """Return the whole model's measured time in milliseconds.

    Return None if the model is too large for the board.
    """
    return median_times_ms(profile.slices).get((0, len(graph.operators)))


def profile_verdict(name: str, whole_ms: Mapping[str, float | None]) -> str:
    """Return a sentence with the whole model's times on the fastest and on the slowest board.

    Args:
        name: The model's name.
        whole_ms: The whole model's time by board, in milliseconds. None: the model is too large for
            the board.
    """
    boards = f"{name}, measured on {_show.count_of(len(whole_ms), 'board')}"
    times = sorted((took, board) for board, took in whole_ms.items() if took is not None)
    if not times:
        return f"{boards}: the whole model is too large for every board."
    (fastest_ms, fastest), (slowest_ms, slowest) = times[0], times[-1]
    if len(times) == 1:
        return f"{boards}: the whole model takes {fastest_ms:.2f} ms on {fastest}."
    return (
        f"{boards}: the whole model takes from {fastest_ms:.2f} ms on {fastest} to "
        f"{slowest_ms:.2f} ms on {slowest}."
    )


def profile_row(found: FoundProfile, graph: Graph) -> list[str]:
    """Return a board's cells for :data:`PROFILE_COLUMNS`."""
    profile = found.profile
    link = fit_link(profile.messages, profile.cores)
    whole_ms = whole_model_ms(profile, graph)
    return [
        profile.board,
        "too large" if whole_ms is None else f"{whole_ms:.2f}",
        str(len(profile.slices)),
        f"{fit_handling(profile.messages, profile.cores).fixed_ms:.2f}",
        f"{link.mbit_s:.0f}",
        f"{link.fixed_ms:.2f}",
        _span(profile.temperature_c),
        _span(profile.clock_mhz),
        str(profile.threads),
        f"{profile.cores:.2g}",
        profile.runtime,
        # Only the date: a terminal of 80 columns has no space for the time.
        "now" if found.measured_now else profile.measured_at.partition("T")[0],
    ]


def _span(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "-"
    low, high = (f"{end:.0f}" for end in ends)
    return low if low == high else f"{low}-{high}"
