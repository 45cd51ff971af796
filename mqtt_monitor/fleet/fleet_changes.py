"""Describes the changes between two snapshots, for the stream to the web page. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.fleet.describe_fleet import describe_fleet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqtt_monitor.fleet.snapshot import Fleet

_T = TypeVar("_T")


def describe_changes(before: Fleet | None, now: Fleet) -> dict[str, Any]:
    """Return the changes from one snapshot to the next as a document of JSON values.

    The document has the format of :func:`mqtt_monitor.fleet.describe_fleet.describe_fleet`, but
    contains only new and changed boards, deployments, events and requests. ``gone_devices`` and
    ``gone_deployments`` list the names of removed boards and deployments. ``alerts`` is missing if
    the alerts have not changed.

    Args:
        before: The snapshot that the reader already has; None: the document describes the whole
            fleet.
        now: The new snapshot.
    """
    alerts = find_alerts(now)
    if before is None:
        return describe_fleet(now, alerts)
    last_event = before.events[-1].number if before.events else 0
    # Requests are compared by identity, because a client's report may replace an earlier entry of
    # the same request.
    known = {id(request) for request in before.requests}
    changed = replace(
        now,
        devices=_changed(before.devices, now.devices),
        deployments=_changed(before.deployments, now.deployments),
        events=tuple(event for event in now.events if event.number > last_event),
        requests=tuple(request for request in now.requests if id(request) not in known),
    )
    document = describe_fleet(changed, alerts)
    if alerts == find_alerts(before):
        del document["alerts"]
    return {
        **document,
        "gone_devices": [name for name in before.devices if name not in now.devices],
        "gone_deployments": [name for name in before.deployments if name not in now.deployments],
    }


def _changed(before: Mapping[str, _T], now: Mapping[str, _T]) -> dict[str, _T]:
    return {name: item for name, item in now.items() if before.get(name) != item}
