"""``edge-partition profile``: boards measure a model and their links, for plans to rest on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_core.errors import EdgePartitionError
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import broker_options, json_option, model_options
from edge_partition.planning.fleet import Device, Fleet, load_fleet
from edge_partition.planning.link_times import fit_handling, fit_link
from edge_partition.planning.stage_times import median_times_ms
from edge_partition.profiling.apply_profiles import profiled_stage_times
from edge_partition.profiling.profile_boards import Board, Profiler, ProfileRefusedError
from edge_partition.profiling.profile_store import BoardProfile, ProfileError, ProfileStore
from edge_partition.profiling.time_planned_stages import refine_profiles

if TYPE_CHECKING:
    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.tflite.graph import Graph


class NoBoardsError(EdgePartitionError):
    """No board is online, or none of the fleet's."""

    def __init__(self, broker: str, fleet: Path | None) -> None:
        which = "No board" if fleet is None else f"None of the boards in {fleet}"
        super().__init__(
            f"{which} is online at {broker}; start `device-agent` on those to be measured."
        )


@click.command("profile")
@model_options
@click.option(
    "--device", "devices", metavar="NAME", multiple=True, help="Only this board; repeatable."
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path),
    help="Only the boards of this fleet.toml, with its limits; else all online, without limits.",
)
@click.option("--again", is_flag=True, help="Measure also what is known already.")
@click.option(
    "--force", is_flag=True, help="Also boards that serve a deployment, which slows them down."
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
    broker: str,
    prefix: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Have every board online time MODEL's parts and its link to the broker.

    Then each times the stages that it has in the best plans.

    What a board measured is kept on this machine by model, board and runtime version, and `plan`
    and `split` use it. A board that was measured before is not asked again.
    """
    limits = None if fleet is None else _read_fleet(fleet, devices)
    loaded = _planning.load(model, **options)
    store = ProfileStore()
    found: dict[str, _Found] = {}
    with Profiler(broker, prefix=prefix) as profiler:
        named = None if limits is None else {device.name for device in limits.devices}
        boards = profiler.boards(devices, among=named)
        if not boards:
            raise NoBoardsError(broker, fleet)
        if named is not None and not devices:
            _tell_absent(named - {board.name for board in boards})
        for board in boards:
            known = None if again else _known(store, loaded, board)
            if known is not None:
                found[board.name] = _Found(known, measured_now=False)

        def note(profile: BoardProfile) -> None:
            found[profile.board] = _Found(profile, measured_now=True)

        def keep(profile: BoardProfile) -> None:
            store.save(profile)
            note(profile)

        with _show.board_progress("Measuring on") as on_progress:
            profiler.measure(
                [board for board in boards if board.name not in found],
                loaded.tflite,
                force=force,
                on_progress=on_progress,
                on_profile=keep,
            )
        if any(item.measured_now for item in found.values()):
            planned = limits or Fleet(tuple(Device(board.name) for board in boards))
            try:
                with _show.board_progress("Timing the stages of plans on") as on_progress:
                    refine_profiles(
                        profiler,
                        boards,
                        loaded.tflite,
                        store,
                        fleet=planned,
                        force=force,
                        on_progress=on_progress,
                        on_profile=note,
                    )
            except ProfileRefusedError as error:
                _show.warn(f"{error} Stages of plans are pieced together from smaller parts there.")
    results = [found[board.name] for board in boards]
    if as_json:
        graph = loaded.tflite.graph
        _show.print_json(
            {
                "model": loaded.name,
                "model_sha256": loaded.tflite.sha256,
                "boards": [_describe(item, graph, store) for item in results],
            }
        )
        return
    _show_profiles(loaded.name, results, loaded.tflite.graph)


def _read_fleet(path: Path, devices: tuple[str, ...]) -> Fleet:
    fleet = load_fleet(path)
    strange = set(devices) - {device.name for device in fleet.devices}
    if strange:
        names = ", ".join(sorted(strange))
        raise click.UsageError(f"{names} is not in {path}; leave --device or --fleet out.")
    return fleet


def _tell_absent(names: set[str]) -> None:
    if names:
        _show.warn(f"Not online, so not measured now: {', '.join(sorted(names))}.")


@dataclass(frozen=True)
class _Found:
    profile: BoardProfile
    measured_now: bool


def _known(store: ProfileStore, loaded: LoadedTflite, board: Board) -> BoardProfile | None:
    try:
        profile = store.find(loaded.tflite.sha256, board.name, board.runtime)
        if profile is None or profile.threads != board.threads:
            return None
        # One that doesn't fit the model is of as little use as a damaged one.
        profiled_stage_times(loaded.tflite.graph, profile, store)
    except ProfileError as error:
        _show.warn(f"{error} It is measured anew now.")
        return None
    return profile


def _describe(found: _Found, graph: Graph, store: ProfileStore) -> dict[str, Any]:
    profile = found.profile
    times = profiled_stage_times(graph, profile, store)
    link = fit_link(profile.messages, profile.cores)
    handling = fit_handling(profile.messages, profile.cores)
    return {
        "measured_now": found.measured_now,
        "file": str(store.path(profile.model_sha256, profile.board, profile.runtime)),
        **asdict(profile),
        "whole_ms": _whole_ms(profile, graph),
        "operators_ms": times.before_ns[-1] / 1e6,
        "fixed_ms": times.fixed_ns / 1e6,
        "link_mbit_s": link.mbit_s,
        "link_ms": link.fixed_ms,
        "handling_ms": handling.fixed_ms,
        "handling_ms_per_mb": handling.ms_per_mb,
    }


def _whole_ms(profile: BoardProfile, graph: Graph) -> float | None:
    """Return the measured time of the whole model; None: the board doesn't hold it."""
    return median_times_ms(profile.slices).get((0, len(graph.operators)))


def _show_profiles(name: str, results: list[_Found], graph: Graph) -> None:
    console = _show.console()
    table = _show.table(
        f"{name}, measured on {len(results)} board{'s' * (len(results) != 1)}",
        *("board", "runtime", ">threads", ">cores", ">parts", ">whole ms"),
        *(">ms a message", ">Mbit/s", ">link ms", ">°C", ">MHz", "measured"),
    )
    for found in results:
        profile = found.profile
        link = fit_link(profile.messages, profile.cores)
        whole_ms = _whole_ms(profile, graph)
        table.add_row(
            profile.board,
            profile.runtime,
            str(profile.threads),
            f"{profile.cores:.2g}",
            str(len(profile.slices)),
            "too large" if whole_ms is None else f"{whole_ms:.2f}",
            f"{fit_handling(profile.messages, profile.cores).fixed_ms:.2f}",
            f"{link.mbit_s:.0f}",
            f"{link.fixed_ms:.2f}",
            _span(profile.temperature_c),
            _span(profile.clock_mhz),
            "now" if found.measured_now else profile.measured_at,
        )
    console.print(table)
    for found in results:
        if found.profile.unsettled:
            console.print(
                f"{found.profile.board}: {found.profile.unsettled} of "
                f"{len(found.profile.slices)} parts' times had not come to rest when their time "
                "was up: the board was busy with something else."
            )
    kept = [found.profile.board for found in results if not found.measured_now]
    if kept:
        console.print(f"Not asked again: {', '.join(kept)}; --again measures anew.")
    console.print("Next: `edge-partition plan`, which uses these for boards of these names.")


def _span(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "-"
    low, high = (f"{end:.0f}" for end in ends)
    return low if low == high else f"{low}-{high}"
