"""Replace the estimated times, links and memory limits of a fleet by measured values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edge_partition.planning.agent_limits import limit_difference, with_agent_limit
from edge_partition.planning.cost_model import operator_work_macs
from edge_partition.planning.fit_messages import fit_handling, fit_link
from edge_partition.planning.fleet import Fleet
from edge_partition.planning.stage_times import fit_stage_times
from edge_partition.profiling.profile_store import ProfileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_partition.planning.fleet import Device
    from edge_partition.planning.stage_times import StageTimes
    from edge_partition.profiling.profile_store import BoardProfile, ProfileStore
    from edge_partition.tflite.graph import Graph


def apply_profiles(
    fleet: Fleet,
    graph: Graph,
    model_sha256: str,
    store: ProfileStore,
    *,
    on_unusable: Callable[[ProfileError], None],
    on_limit: Callable[[str], None] | None = None,
) -> Fleet:
    """Return the fleet with measured figures for each board that has a profile of the model.

    The profile also has the memory limit of the board's agent. If the agent has a limit, the limit
    replaces the limit in ``fleet``.

    Args:
        fleet: The boards.
        graph: The graph of the model.
        model_sha256: SHA-256 of the model's ``.tflite``.
        store: The store of profiles.
        on_unusable: Called with the error of an invalid profile. The board of this profile keeps
            its figures from ``fleet``.
        on_limit: Called with a sentence for each board whose memory limit in ``fleet`` differs from
            the limit of its agent.
    """
    devices = []
    for device in fleet.devices:
        try:
            profile = store.newest(model_sha256, device.name)
            measured = device if profile is None else _measured(device, graph, profile, store)
            difference = None if profile is None else limit_difference(device, profile.ram_mib)
            if difference is not None and on_limit is not None:
                on_limit(difference)
        except ProfileError as error:
            on_unusable(error)
            measured = device
        devices.append(measured)
    return Fleet(tuple(devices))


def profiled_stage_times(graph: Graph, profile: BoardProfile, store: ProfileStore) -> StageTimes:
    """Return the times of all possible stages of ``graph`` on the board of ``profile``.

    Args:
        graph: The graph of the model.
        profile: A board's profile of the model.
        store: The store of the profile.

    Raises:
        ProfileError: The profile does not match ``graph``, or does not cover all operators.
    """
    path = store.path(profile.model_sha256, profile.board, profile.runtime)
    ends = {0, *graph.cuts, len(graph.operators)}
    for item in profile.slices:
        if not {item.start, item.stop} <= ends:
            raise ProfileError(
                path,
                f"its slice [{item.start}, {item.stop}) starts or ends where the model has no cut",
            )
    # A slice's inputs and outputs have the model's dtypes, even if a plan sends float16.
    boundary_bytes = [graph.boundary_bytes(end) for end in range(len(graph.operators) + 1)]
    try:
        return fit_stage_times(profile.slices, operator_work_macs(graph), boundary_bytes)
    except ValueError as error:
        raise ProfileError(path, str(error)) from None


def _measured(device: Device, graph: Graph, profile: BoardProfile, store: ProfileStore) -> Device:
    link = fit_link(profile.messages, profile.cores)
    return replace(
        with_agent_limit(device, profile.ram_mib),
        stage_times=profiled_stage_times(graph, profile, store),
        threads=profile.threads,
        cores=profile.cores,
        handling=fit_handling(profile.messages, profile.cores),
        link_mbit_s=link.mbit_s,
        link_ms=link.fixed_ms,
        link_source="measured",
    )
