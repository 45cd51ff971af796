"""A snapshot as one JSON document: ``--json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqtt_monitor.fleet.alerts import Alert
    from mqtt_monitor.fleet.snapshot import Deployment, Device, Fleet, Load, Request, Stage


#: What a manifest says of a stage's layers.
_LAYERS = ("layers", "more_layers", "wrapped", "more_wrapped")


def describe_fleet(
    fleet: Fleet, alerts: tuple[Alert, ...], *, with_layers: bool = False
) -> dict[str, Any]:
    """Return the document: lists of boards and deployments as in ``edge-partition status --json``.

    Field names are those of :mod:`mqtt_monitor.fleet.snapshot`, but that a deployment's name is
    ``deployment``, and that ``state`` is ``online`` or ``offline`` alone: a board that never said
    is online if it tells how it fares. The layers of stages are many and stay as they are: a stream
    goes without them.
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


# Not dataclasses.asdict: it copies every value deeply, which took 0.3 s for 500 boards.


def _device(device: Device) -> dict[str, Any]:
    online = device.state == "online" or (device.state == "unknown" and device.fresh)
    return {
        **vars(device),
        "state": "online" if online else "offline",
        "profile": vars(device.profile) if device.profile else None,
        "load": _load(device.load) if device.load else None,
        "serves": [vars(served) for served in device.serves],
        "refusals": [vars(refusal) for refusal in device.refusals],
    }


def _load(load: Load) -> dict[str, Any]:
    return {**vars(load), "link": vars(load.link) if load.link else None}


def _deployment(deployment: Deployment, *, with_layers: bool) -> dict[str, Any]:
    fields = dict(vars(deployment))
    return {
        "deployment": fields.pop("name"),
        **fields,
        "stages": [_stage(stage, with_layers=with_layers) for stage in deployment.stages],
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
        "boards": [
            {**vars(board), "errors_total": dict(board.errors_total)} for board in stage.boards
        ],
    }


def _request(request: Request) -> dict[str, Any]:
    return {
        **vars(request),
        "stages": [vars(stage) for stage in request.stages],
        "stages_ms": request.stages_ms,
    }
