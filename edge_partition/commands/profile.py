"""``edge-partition profile``: have boards measure a model and their links to the broker."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_core.errors import EdgePartitionError
from edge_core.program.click_program import broker_address, broker_options, json_option
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import model_options
from edge_partition.commands._profile_text import (
    PROFILE_COLUMNS,
    FoundProfile,
    profile_row,
    profile_verdict,
    whole_model_ms,
)
from edge_partition.planning.agent_limits import limit_difference
from edge_partition.planning.fit_messages import fit_handling, fit_link
from edge_partition.planning.fleet import Device, Fleet, load_fleet
from edge_partition.profiling.apply_profiles import profiled_stage_times
from edge_partition.profiling.profile_boards import Board, Profiler, ProfileRefusedError
from edge_partition.profiling.profile_store import BoardProfile, ProfileError, ProfileStore
from edge_partition.profiling.time_planned_stages import refine_profiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.tflite.graph import Graph


class NoBoardsError(EdgePartitionError):
    """No board is online, or none of the boards in the fleet file is online."""

    def __init__(self, broker: str, fleet: Path | None) -> None:
        which = "No board" if fleet is None else f"None of the boards in {fleet}"
        super().__init__(
            f"{which} is online at {broker}; start `device-agent` on the boards that are to be "
            "measured."
        )


@click.command("profile")
@model_options
@click.option(
    "--device",
    "devices",
    metavar="NAME",
    multiple=True,
    help="Measure only the board of this name; repeatable.",
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure only the boards in this fleet.toml, and plan with the limits in the file. "
    "Default: measure all boards that are online, and plan without limits.",
)
@click.option("--again", is_flag=True, help="Also measure boards that were measured before.")
@click.option(
    "--force",
    is_flag=True,
    help="Also measure boards that serve a deployment; this slows the deployment down.",
)
@broker_options
@json_option
def command(
    *,
    model: str,
    devices: tuple[str, ...],
    fleet: Path | None,
    again: bool,
    force: bool,
    prefix: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure MODEL's parts, and the link to the broker, on every board that is online.

    Then each board times its stages in the best plans.

    MODEL is a name, file or folder as for `edge-partition split`. The measurements are kept on this
    machine for each model, board and runtime version. `plan` and `split` use the measurements.
    Without --again, a board that was measured before is not measured again.
    """
    broker = broker_address(options)
    limits = None if fleet is None else _read_fleet(fleet, devices)
    loaded = _planning.load(model, **options)
    store = ProfileStore()
    with Profiler(broker, prefix=prefix) as profiler:
        boards = _find_boards(profiler, devices, limits)
        if not boards:
            raise NoBoardsError(broker.url, fleet)
        _warn_of_limits(limits, boards)
        known = {} if again else _known_profiles(store, loaded, boards)
        unknown = [board for board in boards if board.name not in known]
        measured = _measure(profiler, unknown, loaded, store, force=force)
        if measured:
            planned = limits or Fleet(tuple(Device(board.name) for board in boards))
            measured |= _time_stages(profiler, boards, loaded, store, planned, force=force)
    results = [
        FoundProfile((known | measured)[board.name], measured_now=board.name in measured)
        for board in boards
    ]
    if as_json:
        _show.print_json(_document(loaded, results, store))
    else:
        _show_profiles(loaded.name, results, loaded.tflite.graph)


def _find_boards(
    profiler: Profiler, devices: tuple[str, ...], limits: Fleet | None
) -> tuple[Board, ...]:
    """Return the boards to measure. Warn about boards of the fleet file that are offline."""
    named = None if limits is None else {device.name for device in limits.devices}
    boards = profiler.boards(devices, among=named)
    if boards and named is not None and not devices:
        absent = named - {board.name for board in boards}
        if absent:
            _show.warn(f"Not measured, because offline: {', '.join(sorted(absent))}.")
    return boards


def _warn_of_limits(fleet: Fleet | None, boards: Sequence[Board]) -> None:
    """Warn about boards whose agent's memory limit differs from the limit in the fleet file."""
    limits_mib = {board.name: board.ram_mib for board in boards}
    for device in () if fleet is None else fleet.devices:
        difference = limit_difference(device, limits_mib.get(device.name))
        if difference is not None:
            _show.warn(difference)


def _known_profiles(
    store: ProfileStore, loaded: LoadedTflite, boards: Sequence[Board]
) -> dict[str, BoardProfile]:
    """Return the stored profiles that are valid for these boards, by board name."""
    found = {board.name: _known(store, loaded, board) for board in boards}
    return {name: profile for name, profile in found.items() if profile is not None}


def _measure(
    profiler: Profiler,
    boards: Sequence[Board],
    loaded: LoadedTflite,
    store: ProfileStore,
    *,
    force: bool,
) -> dict[str, BoardProfile]:
    """Have boards measure the model's parts. Store and return the profiles, by board name."""
    measured: dict[str, BoardProfile] = {}

    def keep(profile: BoardProfile) -> None:
        store.save(profile)
        measured[profile.board] = profile

    with _show.board_progress("Measuring on") as on_progress:
        profiler.measure(
            boards, loaded.tflite, force=force, on_progress=on_progress, on_profile=keep
        )
    return measured


def _time_stages(
    profiler: Profiler,
    boards: Sequence[Board],
    loaded: LoadedTflite,
    store: ProfileStore,
    fleet: Fleet,
    *,
    force: bool,
) -> dict[str, BoardProfile]:
    """Have each board time its stages in the best plans. Return the new profiles by board name."""
    timed: dict[str, BoardProfile] = {}
    try:
        with _show.board_progress("Timing the stages of plans on") as on_progress:
            refine_profiles(
                profiler,
                boards,
                loaded.tflite,
                store,
                fleet=fleet,
                force=force,
                on_progress=on_progress,
                on_profile=lambda profile: timed.update({profile.board: profile}),
            )
    except ProfileRefusedError as error:
        _show.warn(f"{error} Plans estimate this board's stages from the times of smaller parts.")
    return timed


def _read_fleet(path: Path, devices: tuple[str, ...]) -> Fleet:
    fleet = load_fleet(path)
    strange = set(devices) - {device.name for device in fleet.devices}
    if strange:
        names = ", ".join(sorted(strange))
        raise click.UsageError(f"{path} has no board {names}; leave out --device or --fleet")
    return fleet


def _known(store: ProfileStore, loaded: LoadedTflite, board: Board) -> BoardProfile | None:
    try:
        profile = store.find(loaded.tflite.sha256, board.name, board.runtime)
        if profile is None or profile.threads != board.threads:
            return None
        # Raises ProfileError if the profile doesn't fit the model.
        profiled_stage_times(loaded.tflite.graph, profile, store)
        if profile.ram_mib != board.ram_mib:
            # After the measurement, the agent was started with another memory limit.
            profile = replace(profile, ram_mib=board.ram_mib)
            store.save(profile)
    except ProfileError as error:
        _show.warn(f"{error} The board is measured again now.")
        return None
    return profile


def _document(
    loaded: LoadedTflite, results: list[FoundProfile], store: ProfileStore
) -> dict[str, Any]:
    """Return the document that ``--json`` prints."""
    graph = loaded.tflite.graph
    return {
        "model": loaded.name,
        "model_sha256": loaded.tflite.sha256,
        "boards": [_describe(item, graph, store) for item in results],
    }


def _describe(found: FoundProfile, graph: Graph, store: ProfileStore) -> dict[str, Any]:
    profile = found.profile
    times = profiled_stage_times(graph, profile, store)
    link = fit_link(profile.messages, profile.cores)
    handling = fit_handling(profile.messages, profile.cores)
    return {
        "measured_now": found.measured_now,
        "file": str(store.path(profile.model_sha256, profile.board, profile.runtime)),
        **asdict(profile),
        "whole_ms": whole_model_ms(profile, graph),
        "operators_ms": times.before_ns[-1] / 1e6,
        "fixed_ms": times.fixed_ns / 1e6,
        "link_mbit_s": link.mbit_s,
        "link_ms": link.fixed_ms,
        "handling_ms": handling.fixed_ms,
        "handling_ms_per_mb": handling.ms_per_mb,
    }


def _show_profiles(name: str, results: list[FoundProfile], graph: Graph) -> None:
    whole_ms = {found.profile.board: whole_model_ms(found.profile, graph) for found in results}
    _show.say(profile_verdict(name, whole_ms), bold=True)
    rows = [profile_row(found, graph) for found in results]
    _show.show_table("", PROFILE_COLUMNS, rows, once=["runtime", "threads", "cores", "measured"])
    _show.say(
        "Message: the processor time to receive or send one message. Link: the speed of the link "
        "to the broker, and the delay of one message."
    )
    for found in results:
        if found.profile.unsettled:
            _show.say(
                f"{found.profile.board}: {found.profile.unsettled} of "
                f"{_show.count_of(len(found.profile.slices), 'part')} had times that still varied "
                "at the end of the measurement: the board was busy with something else."
            )
    kept = [found.profile.board for found in results if not found.measured_now]
    if kept:
        _show.say(f"Measured before: {', '.join(kept)}; --again measures these boards again.")
    _show.say("Next: `edge-partition plan`, which uses these times for boards of these names.")
