"""``edge-partition status``: show boards and live deployments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_core.program.click_program import broker_address, broker_options, json_option
from edge_partition import api
from edge_partition.client.errors import UnknownDeploymentError
from edge_partition.commands import _show
from edge_partition.facts.describe_ends import ends_document
from edge_partition.planning.agent_limits import limit_difference, read_ram_limit_mib
from edge_partition.planning.fleet import load_fleet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edge_partition.boards.fleet_status import FleetStatus
    from edge_partition.planning.fleet import Device

#: Most inputs, and most outputs, that are shown for one deployment.
_ENDS_SHOWN = 8
_LIMIT_USED = "the agent uses its own limit, and so do plans after `edge-partition profile`"


@click.command("status")
@click.argument("deployment", required=False)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also warn about agents whose memory limit differs from the limit in this fleet.toml.",
)
@broker_options
@json_option
def command(
    deployment: str | None, fleet: Path | None, prefix: str, as_json: bool, **options: Any
) -> None:
    """Show all boards and live deployments at the broker, or only DEPLOYMENT and its boards."""
    boards = () if fleet is None else load_fleet(fleet).devices
    status = api.read_status(broker_address(options), prefix=prefix)
    live = [manifest.deployment for manifest in status.manifests]
    if deployment is not None and deployment not in live:
        raise UnknownDeploymentError(deployment, live)
    document = _describe(status, deployment)
    for difference in _limit_differences(boards, status):
        _show.warn(difference)
    if as_json:
        _show.print_json(document)
        return
    _show.say(_verdict(document), bold=True)
    if document["devices"]:
        _show_boards(document["devices"])
    else:
        _show.say("No board has ever been online at this broker; start `device-agent` on a board.")
    if document["deployments"]:
        _show_deployments(document["deployments"])
    else:
        _show.say("Next: `edge-partition deploy BUILD` makes a bundle live.")


def _limit_differences(boards: Iterable[Device], status: FleetStatus) -> Iterator[str]:
    """Yield a sentence for each board whose agent's memory limit is not that of the fleet file."""
    limits_mib = {board.device: read_ram_limit_mib(board.profile) for board in status.boards}
    for device in boards:
        difference = limit_difference(device, limits_mib.get(device.name), _LIMIT_USED)
        if difference is not None:
            yield difference


def _verdict(document: dict[str, Any]) -> str:
    boards, deployments = document["devices"], document["deployments"]
    online = sum(board["state"] == "online" for board in boards)
    live = [item["deployment"] for item in deployments if item["state"] == "live"]
    broken = [item["deployment"] for item in deployments if item["state"] != "live"]
    parts = [f"{online} of {_show.count_of(len(boards), 'board')} online"] if boards else []
    parts += [f"live: {_show.name_some(live)}"] if live else []
    parts += [f"broken, because a stage has no board: {_show.name_some(broken)}"] if broken else []
    return "; ".join(parts if deployments else [*parts, "nothing is deployed"]) + "."


def _show_boards(boards: list[dict[str, Any]]) -> None:
    rows = []
    for board in boards:
        serves = ", ".join(
            f"{item['deployment']}[{','.join(map(str, item['stages']))}]"
            + ("" if item["state"] == "live" else f" ({item['state']})")
            for item in board["deployments"]
        )
        free_bytes = board["profile"].get("free_memory_bytes")
        limit_mib = read_ram_limit_mib(board["profile"])
        rows.append(
            (
                board["name"],
                board["state"],
                serves or "-",
                _show.mib(free_bytes) if isinstance(free_bytes, int | float) else "-",
                "none" if limit_mib is None else f"{limit_mib:g}",
                str(board["profile"].get("runtime", "-")),
            )
        )
    columns = (
        "board",
        "state",
        "serves [stages]",
        ">free RAM\nMiB",
        ">agent's\nlimit MiB",
        "runtime",
    )
    _show.show_table("Boards", columns, rows, once=["runtime"])


def _show_deployments(deployments: list[dict[str, Any]]) -> None:
    rows = [
        (
            item["deployment"],
            item["model"],
            item["state"],
            " -> ".join("|".join(stage["devices"]) for stage in item["stages"]),
        )
        for item in deployments
    ]
    columns = ("deployment", "model", "state", "boards of each stage")
    _show.show_table("Deployments", columns, rows, gap=False)
    for item in deployments:
        for verb, ends in (("takes", item["inputs"]), ("gives", item["outputs"])):
            for line in _end_lines(ends):
                _show.say(f"{item['deployment']} {verb} {line}.")


def _end_lines(ends: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each of the first inputs or outputs, then the number of the others."""
    for end in ends[:_ENDS_SHOWN]:
        yield end["words"]
    if len(ends) > _ENDS_SHOWN:
        yield f"{len(ends) - _ENDS_SHOWN} more (`edge-partition status --json` shows all)"


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
