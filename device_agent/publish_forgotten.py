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
    """Publish the manifests that the broker forgot, but not those of undeployed deployments.

    Args:
        manifests: Manifests that are live on this board and that the broker did not send.
        connection: The agent's connection.
        requests: Sender of ``status`` commands to other boards.
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
            "%s was undeployed while this board was offline: the broker has no manifest, and the "
            "board %s no longer has its part. To remove this board's part, run `edge-partition "
            "undeploy %s`.",
            *(manifest.deployment, stranger, manifest.deployment),
        )


def _board_without(
    manifest: Manifest, requests: AgentRequests, topics: Topics, device: str
) -> str | None:
    """Return another board that no longer has its part of the deployment; None: there is none.

    A missing manifest has one of two causes: the broker forgot the manifest, or the deployment was
    undeployed while this board was offline. In the second case, the other boards no longer have
    their parts. Boards that do not answer are skipped.
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
