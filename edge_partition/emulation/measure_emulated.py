"""Compute the times of a model on emulated boards from its times on this machine.

One agent, limited to a fifth of one of this machine's processors, times slices (ranges of
operators) of the model. For each different link in the fleet, an agent times messages over an
emulated link, as ``edge-partition profile`` does on boards. A board with a tenth of a processor is
taken to be half as fast as this agent, and so on: to time each board within its own share would
take minutes. Boards with smaller shares are a little slower than these times, because the kernel
stops their processes more often.
"""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_partition.emulation.desk_fleet import DeskFleet
from edge_partition.emulation.limit_board import Limits, board_limits
from edge_partition.planning.cost_model import invoke_ms, model_speed_gmac_s, total_work_macs
from edge_partition.planning.fit_messages import fit_handling, fit_link
from edge_partition.planning.fleet import Device, Fleet
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
#: Share of a processor for the agent that times the model. Three boards with shares of 0.07 to 0.16
#: had a lower throughput than predicted for MobileNetV3Large. With times from half a processor, the
#: prediction was 17 to 37 % too high; with times from a fifth, 11 and 16 %. Times from a tenth gave
#: equal errors, and timing took twice as long as with half a processor.
_SHARE = 0.2


@dataclass(frozen=True)
class EmulatedBoards:
    """The boards that this machine emulates, with their times and limits.

    Attributes:
        fleet: The boards, with the times of one model.
        limits: Limits of the agents, by board name.
        host_gmac_s: Speed of one processor of this machine, in the unit of
            :attr:`Device.speed_gmac_s`.
        scale: Factor by which every board's speed was scaled to fit this machine, 1 or less.
    """

    fleet: Fleet
    limits: dict[str, Limits]
    host_gmac_s: float
    scale: float


def measure_emulated(
    fleet: Fleet, model: TfliteModel, *, on_progress: Callable[[str, int, int], None] | None = None
) -> EmulatedBoards:
    """Return the boards with the times of ``model`` on each board, and the limits of their agents.

    Args:
        fleet: The boards, with their speeds.
        model: The model.
        on_progress: Called with ("this-machine", slices timed, number of slices).

    Raises:
        EmulationError: This machine can't enforce the limits.
        ProfileRefusedError: The model could not be timed on this machine.
    """
    graph = model.graph
    measured = _measure_here(fleet, model, on_progress)
    profile = measured.profile
    processor = Device(_NAME, stage_times=_on_share(profile, graph, 1.0))
    whole_ms = invoke_ms(graph, processor, 0, len(graph.operators))
    host_gmac_s = total_work_macs(graph) / whole_ms / 1e6
    speeds = [
        replace(device, speed_gmac_s=model_speed_gmac_s(graph, device)) for device in fleet.devices
    ]
    limits, scale = board_limits(Fleet(tuple(speeds)), host_gmac_s)
    devices = tuple(
        _with_times(device, limits[device.name].cpu_share, measured, graph)
        for device in fleet.devices
    )
    return EmulatedBoards(Fleet(devices), limits, host_gmac_s, scale)


@dataclass(frozen=True)
class _Measured:
    """Measurements of agents on this machine.

    Attributes:
        profile: Times of the model's slices, by an agent with ``_SHARE`` of a processor.
        messages: Times of messages, by link. A link is a pair: bandwidth in 10^6 bits per second,
            and delay in milliseconds.
    """

    profile: BoardProfile
    messages: dict[tuple[float, float], MessageTimes]


def _measure_here(
    fleet: Fleet, model: TfliteModel, on_progress: Callable[[str, int, int], None] | None
) -> _Measured:
    """Have agents time the model's slices, and messages over each different link of the fleet."""
    messages = {}
    for mbit_s, delay_ms in dict.fromkeys(map(_link, fleet.devices)):
        behind = Device(_NAME, link_mbit_s=mbit_s, link_ms=delay_ms)
        with _agent(behind, shape_link=True) as profiler:
            messages[mbit_s, delay_ms] = profiler.time_messages(_NAME)
    profiles: list[BoardProfile] = []
    # This agent has no emulated link, which would only delay the transfer of the slices.
    with _agent(Device(_NAME), shape_link=False) as profiler:
        profiler.measure(
            profiler.boards([_NAME]), model, on_progress=on_progress, on_profile=profiles.append
        )
    return _Measured(profiles[0], messages)


@contextmanager
def _agent(device: Device, *, shape_link: bool) -> Iterator[Profiler]:
    """Start a single agent with ``_SHARE`` of a processor. Several agents would compete."""
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
    """Return the times of the model's stages on a board with ``cpu_share`` of a processor."""
    slices = tuple(
        replace(item, invoke_ms=item.invoke_ms * _SHARE / cpu_share) for item in profile.slices
    )
    # Nothing is saved: an error only takes the path of the profile's file from the store.
    return profiled_stage_times(graph, replace(profile, slices=slices), ProfileStore())
