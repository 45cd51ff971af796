"""Publish the manifests that a restarted broker forgot."""

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
    """Publish live manifests that the broker does not have, except those of ended deployments.

    Args:
        manifests: Manifests that are live on this board and that the broker did not send.
        connection: The agent's connection.
        requests: Sender of ``status`` to other boards.
        topics: The topics of the fleet.
        device: This board's name.
    """
    for manifest in manifests:
        stranger = _board_without(manifest, requests, topics, device)
        if stranger is None:
            _LOG.info("%s: the broker forgot the manifest; published it again", manifest.deployment)
            connection.publish(topics.manifest(manifest.deployment), manifest.to_json().encode())
            continue
        _LOG.warning(
            "%s was undeployed while this board was offline (the broker has no manifest, and the "
            "other board %s holds no part). To remove this board's part, run `edge-partition "
            "undeploy %s`.",
            *(manifest.deployment, stranger, manifest.deployment),
        )


def _board_without(
    manifest: Manifest, requests: AgentRequests, topics: Topics, device: str
) -> str | None:
    """Return another board of the deployment that holds no part of the deployment, or None.

    If the broker has no manifest, the broker forgot the manifest, or the deployment was undeployed
    while this board was offline. Only the other boards know which case is true. A board that does
    not answer is skipped.
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
