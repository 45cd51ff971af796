"""A model measured on this machine -> what it takes on boards emulated here.

An agent within a fifth of one of this machine's processors times the model's parts, and one behind
each kind of link its messages, as ``profile`` has boards do. A board with another share of a
processor takes as many times longer as its share is smaller: to time each within its own would take
minutes. Stops by the kernel cost smaller shares a little more.
"""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_partition.emulation.desk_fleet import DeskFleet
from edge_partition.emulation.limit_board import Limits, board_limits
from edge_partition.planning.cost_model import invoke_ms, total_work_macs
from edge_partition.planning.fleet import Device, Fleet
from edge_partition.planning.link_times import fit_handling, fit_link
from edge_partition.profiling.apply_profiles import profiled_stage_times
from edge_partition.profiling.profile_boards import Profiler
from edge_partition.profiling.profile_store import ProfileStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_partition.planning.stage_times import StageTimes
    from edge_partition.profiling.profile_boards import MessageTimes
    from edge_partition.profiling.profile_store import BoardProfile
    from edge_partition.tflite.graph import Graph
    from edge_partition.tflite.read_tflite import TfliteModel

_NAME = "this-machine"
#: MobileNetV3Large's plan for three boards of 0.07 to 0.16 promised 17 to 37 % more than they did
#: when measured within half a processor, 11 and 16 % within a fifth, and just that within a tenth,
#: which takes twice as long as half.
_SHARE = 0.2


@dataclass(frozen=True)
class EmulatedBoards:
    """Boards as this machine will emulate them.

    Attributes:
        fleet: With the times of one model.
        limits: By board.
        host_gmac_s: One processor of this machine, in 10^9 multiply-accumulates a second.
        scale: 1 or less: by which every board's speed was scaled to fit this machine.
    """

    fleet: Fleet
    limits: dict[str, Limits]
    host_gmac_s: float
    scale: float


def measure_emulated(
    fleet: Fleet, model: TfliteModel, *, on_progress: Callable[[str, int, int], None] | None = None
) -> EmulatedBoards:
    """Return the boards with what ``model`` takes on each, and the limits that make it so.

    Args:
        fleet: The boards, with their speeds.
        model: The model.
        on_progress: Called with ("this-machine", parts timed, parts in all).

    Raises:
        EmulationError: This machine can't hold processes to such limits.
        ProfileRefusedError: The model could not be measured here.
    """
    graph = model.graph
    measured = _measure_here(fleet, model, on_progress)
    profile = measured.profile
    processor = Device(_NAME, stage_times=_on_share(profile, graph, 1.0))
    whole_ms = invoke_ms(graph, processor, 0, len(graph.operators))
    host_gmac_s = total_work_macs(graph) / whole_ms / 1e6
    limits, scale = board_limits(fleet, host_gmac_s)
    devices = tuple(
        _with_times(device, limits[device.name].cpu_share, measured, graph)
        for device in fleet.devices
    )
    return EmulatedBoards(Fleet(devices), limits, host_gmac_s, scale)


@dataclass(frozen=True)
class _Measured:
    """What agents on this machine measured.

    Attributes:
        profile: Of the model, by an agent within ``_SHARE``.
        messages: By link: its 10^6 bits a second and its milliseconds.
    """

    profile: BoardProfile
    messages: dict[tuple[float, float], MessageTimes]


def _measure_here(
    fleet: Fleet, model: TfliteModel, on_progress: Callable[[str, int, int], None] | None
) -> _Measured:
    """Have agents time messages behind each link, for a slow one's cost more, and the model."""
    messages = {}
    for mbit_s, delay_ms in dict.fromkeys(map(_link, fleet.devices)):
        behind = Device(_NAME, link_mbit_s=mbit_s, link_ms=delay_ms)
        with _agent(behind, shape_link=True) as profiler:
            messages[mbit_s, delay_ms] = profiler.time_messages(_NAME)
    profiles: list[BoardProfile] = []
    # A slow link would only hold the parts up on their way to the agent.
    with _agent(Device(_NAME), shape_link=False) as profiler:
        profiler.measure(
            profiler.boards([_NAME]), model, on_progress=on_progress, on_profile=profiles.append
        )
    return _Measured(profiles[0], messages)


@contextmanager
def _agent(device: Device, *, shape_link: bool) -> Iterator[Profiler]:
    """Start an agent within ``_SHARE``, alone: others would take its turns."""
    limits = {device.name: Limits(_SHARE, None, cpu=min(os.sched_getaffinity(0)))}
    with (
        DeskFleet(Fleet((device,)), limits=limits, shape_links=shape_link) as desk,
        Profiler(desk.url) as profiler,
    ):
        yield profiler


def _link(device: Device) -> tuple[float, float]:
    return device.link_mbit_s, device.link_ms


def _with_times(device: Device, cpu_share: float, measured: _Measured, graph: Graph) -> Device:
    messages = measured.messages[_link(device)]
    link = fit_link(messages.timed, messages.cores)
    return replace(
        device,
        cores=cpu_share,
        threads=math.ceil(cpu_share),
        stage_times=_on_share(measured.profile, graph, cpu_share),
        handling=fit_handling(messages.timed, cpu_share),
        link_mbit_s=link.mbit_s,
        link_ms=link.fixed_ms,
        link_source="measured",
    )


def _on_share(profile: BoardProfile, graph: Graph, cpu_share: float) -> StageTimes:
    """Return the model's times on a board of this share of a processor."""
    slices = tuple(
        replace(item, invoke_ms=item.invoke_ms * _SHARE / cpu_share) for item in profile.slices
    )
    # Nothing is kept in the store: it names the profile's file in errors.
    return profiled_stage_times(graph, replace(profile, slices=slices), ProfileStore())
