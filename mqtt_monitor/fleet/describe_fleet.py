"""Converts a snapshot into a JSON document, for ``--json`` and for the web page. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mqtt_monitor.fleet.levels import (
    compare_memory,
    compare_time,
    is_near_limit,
    limit_share,
    tensor_rates,
)

if TYPE_CHECKING:
    from mqtt_monitor.fleet.alerts import Alert
    from mqtt_monitor.fleet.snapshot import (
        BoardStage,
        Deployment,
        Device,
        Fleet,
        Load,
        Request,
        Stage,
    )

#: The fields of a stage that name its layers.
_LAYERS = ("layers", "more_layers", "wrapped", "more_wrapped")


def describe_fleet(
    fleet: Fleet, alerts: tuple[Alert, ...], *, with_layers: bool = False
) -> dict[str, Any]:
    """Return a snapshot as a document of JSON values.

    The document has the fields of :class:`mqtt_monitor.fleet.snapshot.Fleet`, with these
    differences:

    - Boards and deployments are lists, as in ``edge-partition status --json``.
    - The name of a deployment is in the field ``deployment``.
    - The ``state`` of a board is ``online`` or ``offline``. A board that has never published its
      availability is online while it sends statistics.
    - The document also has the values that :mod:`mqtt_monitor.fleet.levels` computes, such as a
      stage's comparison with the plan.

    Args:
        fleet: The snapshot.
        alerts: The snapshot's alerts.
        with_layers: Whether to include the layers of each stage. The stream to the web page leaves
            out the layers, because the lists are long and never change within a generation.
    """
    return {
        "at_s": fleet.at_s,
        "broker": asdict(fleet.broker),
        "devices": [_device(device) for device in fleet.devices.values()],
        "deployments": [
            _deployment(item, with_layers=with_layers) for item in fleet.deployments.values()
        ],
        "alerts": [vars(alert) for alert in alerts],
        "events": [vars(event) for event in fleet.events],
        "requests": [_request(request) for request in fleet.requests],
        "too_many": list(fleet.too_many),
        "messages": asdict(fleet.messages),
    }


# The functions below do not use dataclasses.asdict, which makes a deep copy of every value and
# takes 0.3 s for 500 boards.


def _device(device: Device) -> dict[str, Any]:
    online = device.state == "online" or (device.state == "unknown" and device.fresh)
    return {
        **vars(device),
        "state": "online" if online else "offline",
        "profile": vars(device.profile) if device.profile else None,
        "load": _load(device.load) if device.load else None,
        "serves": [vars(served) for served in device.serves],
        "refusals": [vars(refusal) for refusal in device.refusals],
        "limit_share": limit_share(device),
        "near_limit": is_near_limit(device),
    }


def _load(load: Load) -> dict[str, Any]:
    return {**vars(load), "link": vars(load.link) if load.link else None}


def _deployment(deployment: Deployment, *, with_layers: bool) -> dict[str, Any]:
    fields = dict(vars(deployment))
    return {
        "deployment": fields.pop("name"),
        **fields,
        "stages": [
            {
                **_stage(stage, with_layers=with_layers),
                "is_bottleneck": deployment.is_bottleneck(stage),
            }
            for stage in deployment.stages
        ],
    }


def _stage(stage: Stage, *, with_layers: bool) -> dict[str, Any]:
    fields = dict(vars(stage))
    if not with_layers:
        for key in _LAYERS:
            del fields[key]
    else:
        fields["wrapped"] = [vars(layer) for layer in stage.wrapped]
    return {
        **fields,
        "input": vars(stage.input),
        "output": vars(stage.output),
        "boards": [_board_stage(stage, board) for board in stage.boards],
        "can_serve": stage.can_serve,
        "time_plan": vars(compare_time(stage)),
        "memory_plan": vars(compare_memory(stage)),
    }


def _board_stage(stage: Stage, board: BoardStage) -> dict[str, Any]:
    in_bytes_per_s, out_bytes_per_s = tensor_rates(stage, board)
    return {
        **vars(board),
        "errors_total": dict(board.errors_total),
        "in_bytes_per_s": in_bytes_per_s,
        "out_bytes_per_s": out_bytes_per_s,
    }


def _request(request: Request) -> dict[str, Any]:
    return {
        **vars(request),
        "stages": [vars(stage) for stage in request.stages],
        "stages_ms": request.stages_ms,
    }
