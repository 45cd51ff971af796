"""``edge-partition deploy``: bundle -> live."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_partition import api
from edge_partition.commands import _show
from edge_partition.commands._options import broker_options, json_option

if TYPE_CHECKING:
    from edge_partition.boards.deploy_bundle import LoadedStage


@click.command("deploy")
@click.argument("build", type=click.Path(path_type=Path), default=Path("build"))
@broker_options
@json_option
def command(build: Path, broker: str, prefix: str, as_json: bool) -> None:
    """Make the bundle in BUILD live on its boards.

    Every board takes, checks, loads and tries its part first; only then does the deployment go
    live. If one refuses, nothing changes.
    """
    bundle = api.read_bundle(build)
    manifest = bundle.manifest
    with _show.board_progress() as on_progress:
        loaded = api.deploy_bundle(bundle, broker, prefix=prefix, on_progress=on_progress)
    if as_json:
        _show.print_json(
            {
                "deployment": manifest.deployment,
                "generation": manifest.generation,
                "stages": [asdict(stage) for stage in loaded],
            }
        )
        return
    show_loaded(loaded)
    _show.console().print(
        f"{manifest.deployment} is live (generation {manifest.generation}). Next: "
        f"`edge-partition run {manifest.deployment} INPUTS`."
    )


def show_loaded(loaded: tuple[LoadedStage, ...]) -> None:
    """Print what each board said of its part."""
    table = _show.table(
        "Loaded and tried on every board",
        *("stage", "board", ">load ms", ">one inference ms", ">difference", ">agent RSS MiB"),
    )
    for stage in loaded:
        table.add_row(
            str(stage.stage),
            stage.device,
            f"{stage.load_ms:.1f}",
            f"{stage.invoke_ms:.2f}",
            f"{stage.max_difference:g}",
            _show.mib(stage.ram_bytes),
        )
    _show.console().print(table)
