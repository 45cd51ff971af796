"""Manifests that a restarted broker forgot are published again by the boards that serve them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_core.contract.manifest import Manifest
    from edge_core.contract.topics import Topics
    from edge_core.mqtt.agent_requests import AgentRequests
    from edge_core.mqtt.connection import Connection

_LOG = logging.getLogger("device-agent")

_PEER_WAIT_S = 2.0


def publish_forgotten(
    manifests: Iterable[Manifest],
    connection: Connection,
    requests: AgentRequests,
    topics: Topics,
    device: str,
) -> None:
    """Publish live manifests that the broker does not hold, unless they were undeployed meanwhile.

    Args:
        manifests: The manifests that are live on this board.
        connection: Manifests leave by it.
        requests: Asks the other boards.
        topics: The topics' names.
        device: This board's name.
    """
    for manifest in manifests:
        stranger = _board_without(manifest, requests, topics, device)
        if stranger is None:
            _LOG.info("%s: the broker forgot the manifest; published again", manifest.deployment)
            connection.publish(topics.manifest(manifest.deployment), manifest.to_json().encode())
            continue
        _LOG.warning(
            "%s: the broker has no manifest and board %s holds nothing of it: it was undeployed "
            "while this board was away; `edge-partition undeploy %s` clears it here",
            *(manifest.deployment, stranger, manifest.deployment),
        )


def _board_without(
    manifest: Manifest, requests: AgentRequests, topics: Topics, device: str
) -> str | None:
    """Return another board of a deployment that says it holds nothing of it, if there is one.

    A broker without the manifest has forgotten the manifest, or the deployment was undeployed while
    this board was away: only the other boards know which. Boards that do not answer prove nothing.
    """
    others = {name for stage in manifest.stages for name in stage.devices}
    for other in sorted(others - {device}):
        try:
            answer = requests.request(
                topics.command(other), {"command": "status"}, device=other, timeout_s=_PEER_WAIT_S
            )
        except EdgePartitionError:
            continue
        held = answer.get("deployments", ())
        if all(item.get("deployment") != manifest.deployment for item in held):
            return other
    return None
