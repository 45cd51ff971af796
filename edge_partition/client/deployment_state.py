"""The state of one deployment as a client knows it: manifest, offline boards, end.

Pure state: it takes messages that arrived, and callers hold a lock where threads share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.manifest import Manifest
from edge_core.errors import ManifestError
from edge_partition.client.errors import REPLACED, UNDEPLOYED, NotOpenError

if TYPE_CHECKING:
    from edge_core.contract.manifest import Stage


class DeploymentState:
    """The manifest that is live, the boards that are offline, and the reason for an end.

    Attributes:
        deployment: The deployment's name.
        ended: Code and reason of the error that every request gets; None while requests can
            succeed.
    """

    def __init__(self, deployment: str) -> None:
        """Start without a manifest."""
        self.deployment = deployment
        self.ended: tuple[str, str] | None = None
        self._manifest: Manifest | None = None
        self._offline: set[str] = set()

    @property
    def manifest(self) -> Manifest:
        """The last manifest that was live.

        Raises:
            NotOpenError: No manifest is known yet.
        """
        if self._manifest is None:
            raise NotOpenError
        return self._manifest

    @property
    def keeps_state(self) -> bool:
        """Whether the model keeps state, so that requests are sent one at a time."""
        return self.manifest.model.state == "keep"

    def begin(self, manifest: Manifest) -> None:
        """Take the manifest that is live when the client connects."""
        self._manifest = manifest
        self.ended = None

    def take_manifest(self, payload: bytes) -> None:
        """Read a message on the manifest's topic; end or resume the deployment.

        An empty payload, or a manifest with other inputs or outputs, ends the deployment for this
        client. A manifest that can't be read changes nothing.
        """
        if not payload:
            self.ended = UNDEPLOYED, f"Deployment {self.deployment!r} was undeployed."
            return
        try:
            manifest = Manifest.from_json(payload)
        except ManifestError:
            return
        if manifest.inputs != self.manifest.inputs or manifest.outputs != self.manifest.outputs:
            reason = (
                f"Deployment {self.deployment!r} was replaced by a model with other inputs or "
                "outputs; open a new pipeline."
            )
            self.ended = REPLACED, reason
            return
        self.begin(manifest)

    def take_availability(self, device: str, *, is_online: bool) -> None:
        """Record whether a board is online, as published by the board or its will."""
        if is_online:
            self._offline.discard(device)
        else:
            self._offline.add(device)

    @property
    def offline(self) -> frozenset[str]:
        """Names of the boards that are offline."""
        return frozenset(self._offline)

    @property
    def has_offline_replica(self) -> bool:
        """Whether a stage has both online and offline boards."""
        return any(
            0 < len(self._offline.intersection(stage.devices)) < len(stage.devices)
            for stage in self.manifest.stages
        )

    def offline_stages(self) -> list[Stage]:
        """Return the stages whose boards are all offline."""
        return [stage for stage in self.manifest.stages if self._offline.issuperset(stage.devices)]
