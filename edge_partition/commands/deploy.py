"""``edge-partition deploy``: make a bundle live on its boards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_core.program.click_program import broker_address, broker_options, json_option
from edge_partition import api
from edge_partition.commands import _show

if TYPE_CHECKING:
    from edge_partition.boards.deploy_bundle import LoadedStage


_COLUMNS = (
    "stage",
    "board",
    ">loading\nms",
    ">inference\nms",
    ">agent's RAM\nMiB",
    ">difference",
)


@click.command("deploy")
@click.argument("build", metavar="[BUILD]", type=click.Path(path_type=Path), default=Path("build"))
@broker_options
@json_option
def command(build: Path, prefix: str, as_json: bool, **options: Any) -> None:
    """Make the bundle in the folder BUILD live on its boards. Default of BUILD: build.

    Every board first receives, checks, loads and tries its part of the model. Then the deployment
    goes live. If one board refuses, no live deployment changes.
    """
    broker = broker_address(options)
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
    _show.say(f"{manifest.deployment} is live (generation {manifest.generation}).", bold=True)
    show_loaded(loaded)
    _show.say(f"Next: `edge-partition run {manifest.deployment} INPUTS`.")


def show_loaded(loaded: tuple[LoadedStage, ...]) -> None:
    """Print each stage's times, memory, and difference from the reference outputs, by board."""
    rows = [
        (
            str(stage.stage),
            stage.device,
            f"{stage.load_ms:.1f}",
            f"{stage.invoke_ms:.2f}",
            _show.mib(stage.ram_bytes),
            f"{stage.max_difference:g}",
        )
        for stage in loaded
    ]
    title = "Each board loaded its part and ran the reference input"
    _show.show_table(title, _COLUMNS, rows, once=["difference"])
    _show.say(
        "Difference: the largest difference from this machine's outputs; 0 means equal values."
    )
