"""A client's knowledge of one deployment: its manifest, its offline boards, and whether it ended.

The state here is pure: callers pass the messages that arrived, and hold a lock if several threads
share a state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.manifest import Manifest
from edge_core.errors import ManifestError
from edge_partition.client.errors import REPLACED, UNDEPLOYED, NotOpenError

if TYPE_CHECKING:
    from edge_core.contract.manifest import Stage


class DeploymentState:
    """A deployment's live manifest, its offline boards, and whether and why the deployment ended.

    Attributes:
        deployment: The deployment's name.
        ended: After the deployment's end, the code and the text of the error that every request
            gets; None while the deployment is live.
    """

    def __init__(self, deployment: str) -> None:
        """Start without a manifest."""
        self.deployment = deployment
        self.ended: tuple[str, str] | None = None
        self._manifest: Manifest | None = None
        self._offline: set[str] = set()

    @property
    def manifest(self) -> Manifest:
        """The live manifest; after the deployment's end, the last live manifest.

        Raises:
            NotOpenError: No manifest is known yet.
        """
        if self._manifest is None:
            raise NotOpenError
        return self._manifest

    @property
    def keeps_state(self) -> bool:
        """Whether the model keeps state between requests: requests are then sent one at a time."""
        return self.manifest.model.state == "keep"

    def begin(self, manifest: Manifest) -> None:
        """Make ``manifest`` the live manifest, and mark the deployment as not ended."""
        self._manifest = manifest
        self.ended = None

    def take_manifest(self, payload: bytes) -> None:
        """Read the payload of a manifest message, which replaces or ends the deployment.

        An empty payload ends the deployment. A manifest whose model has other inputs or outputs
        ends the deployment for this client. A manifest that can't be read changes nothing. Every
        other manifest becomes the live manifest, even after the deployment's end.
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
                f"Deployment {self.deployment!r} now runs a model with other inputs or outputs; "
                "open a new pipeline."
            )
            self.ended = REPLACED, reason
            return
        self.begin(manifest)

    def take_availability(self, device: str, *, is_online: bool) -> None:
        """Record whether a board is online, from a message on the board's availability topic."""
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
