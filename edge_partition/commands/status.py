"""``edge-partition status``: boards and live deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from edge_core.plain_text import plain_text
from edge_partition import api
from edge_partition.client.errors import UnknownDeploymentError
from edge_partition.commands import _show
from edge_partition.commands._options import broker_options, json_option
from edge_partition.facts.describe_ends import ends_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.boards.fleet_status import FleetStatus

_ENDS_SHOWN = 8


@click.command("status")
@click.argument("deployment", required=False)
@broker_options
@json_option
def command(deployment: str | None, broker: str, prefix: str, as_json: bool) -> None:
    """Show the boards at the broker and what is live on them, or DEPLOYMENT alone."""
    status = api.read_status(broker, prefix=prefix)
    live = [manifest.deployment for manifest in status.manifests]
    if deployment is not None and deployment not in live:
        raise UnknownDeploymentError(deployment, live)
    document = _describe(status, deployment)
    if as_json:
        _show.print_json(document)
        return
    console = _show.console()
    boards = _show.table("Boards", "board", "state", "serves", "runtime", ">free MiB")
    for board in document["devices"]:
        serves = ", ".join(
            f"{item['deployment']}[{','.join(map(str, item['stages']))}]"
            + ("" if item["state"] == "live" else f" ({item['state']})")
            for item in board["deployments"]
        )
        free_bytes = board["profile"].get("free_memory_bytes")
        boards.add_row(
            board["name"],
            board["state"],
            serves or "-",
            Text(plain_text(str(board["profile"].get("runtime", "-")))),
            _show.mib(free_bytes) if isinstance(free_bytes, int | float) else "-",
        )
    if document["devices"]:
        console.print(boards)
    else:
        console.print("No board has ever been online at this broker; start `device-agent` on one.")
    if not document["deployments"]:
        console.print("Nothing is deployed; `edge-partition deploy BUILD` makes a bundle live.")
        return
    deployments = _show.table("Deployments", "deployment", "model", "stages on", "state")
    for item in document["deployments"]:
        deployments.add_row(
            item["deployment"],
            Text(plain_text(item["model"])),
            " -> ".join("|".join(stage["devices"]) for stage in item["stages"]),
            item["state"],
        )
    console.print(deployments)
    for item in document["deployments"]:
        for verb, ends in (("takes", item["inputs"]), ("gives", item["outputs"])):
            for line in _end_lines(ends):
                console.print(f"{item['deployment']} {verb} {line}.", markup=False, soft_wrap=True)


def _end_lines(ends: list[dict[str, Any]]) -> Iterator[str]:
    """Say a line an input or output; of a model with very many of them the first."""
    for end in ends[:_ENDS_SHOWN]:
        yield plain_text(end["words"])
    if len(ends) > _ENDS_SHOWN:
        yield f"{len(ends) - _ENDS_SHOWN} more; `status --json` has all"


def _describe(status: FleetStatus, deployment: str | None) -> dict[str, Any]:
    serving = {
        (item.get("deployment"), item.get("generation"), board.device)
        for board in status.boards
        for item in board.deployments
        if item.get("state") == "live"
    }
    deployments = []
    involved: set[str] = set()
    for manifest in status.manifests:
        if deployment not in {None, manifest.deployment}:
            continue
        stages = []
        for stage in manifest.stages:
            live = [
                (manifest.deployment, manifest.generation, device) in serving
                for device in stage.devices
            ]
            involved.update(stage.devices)
            stages.append(
                {"index": stage.index, "devices": list(stage.devices), "serving": sum(live)}
            )
        deployments.append(
            {
                "deployment": manifest.deployment,
                "generation": manifest.generation,
                "model": manifest.model.name,
                "state": "live" if all(stage["serving"] for stage in stages) else "broken",
                "stages": stages,
                **ends_document(
                    manifest.inputs,
                    manifest.outputs,
                    len(manifest.model.labels),
                    manifest.model.detections,
                ),
            }
        )
    return {
        "devices": [
            {
                "name": board.device,
                "state": "online" if board.online else "offline",
                "profile": board.profile,
                "deployments": [dict(item) for item in board.deployments],
            }
            for board in status.boards
            if deployment is None or board.device in involved
        ],
        "deployments": deployments,
    }
