"""The deployments of a board, shared by the threads of the agent."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from device_agent.deployments import Deployments, Refusal
from edge_core.contract.manifest import Manifest
from edge_core.contract.messages import ErrorCode
from edge_core.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from device_agent.deployments import ServedStage

_LOG = logging.getLogger("device-agent")


class LockedDeployments:
    """Lets one thread at a time use :class:`~device_agent.deployments.Deployments`.

    The lock is held for changes in memory only, never while files are read or models loaded.

    Attributes:
        device: This board's name in manifests.
        served_stages: The loaded stages that answer requests, by deployment and stage index. Each
            change replaces the whole mapping, so the inference thread reads it without the lock.
    """

    def __init__(self, device: str) -> None:
        """Start without deployments.

        Args:
            device: This board's name in manifests.
        """
        self.device = device
        self.served_stages: Mapping[tuple[str, int], ServedStage] = {}
        self._lock = threading.Lock()
        self._deployments = Deployments(device)

    @contextmanager
    def read(self) -> Iterator[Deployments]:
        """Yield the deployments for reading, and hold the lock inside the ``with`` block."""
        with self._lock:
            yield self._deployments

    @contextmanager
    def change(self) -> Iterator[Deployments]:
        """Yield the deployments for changes, and hold the lock inside the ``with`` block.

        At the end of the block, :attr:`served_stages` is updated.
        """
        with self._lock:
            try:
                yield self._deployments
            finally:
                self.served_stages = self._deployments.served_stages()

    def expire(self) -> bool:
        """Drop the generations replaced more than 10 s ago; return whether the caller must save."""
        with self._lock:
            changed = self._deployments.expire(time.monotonic())
            if changed:
                self.served_stages = self._deployments.served_stages()
            return changed

    def manifest_arrived(self, deployment: str, payload: bytes | memoryview) -> bool:
        """Apply a deployment's retained manifest that arrived.

        Args:
            deployment: Name of the deployment, from the topic.
            payload: The manifest as JSON; empty: the host cleared the manifest.

        Returns:
            Whether anything changed in memory. If so, the caller saves the state in the jobs
            thread.
        """
        manifest = None
        if payload:
            try:
                manifest = Manifest.from_json(bytes(payload))
            except ManifestError as error:
                _LOG.warning("%s: ignored an unreadable manifest: %s", deployment, error)
                self.note_refusal(deployment, None, ErrorCode.BAD_PAYLOAD, str(error))
                return False
            if manifest.deployment != deployment:
                _LOG.warning(
                    "%s: ignored a manifest on this topic, because it names deployment %s",
                    deployment,
                    manifest.deployment,
                )
                return False
        with self.change() as deployments:
            before = deployments.live_generation(deployment)
            changed = deployments.follow_manifest(deployment, manifest, time.monotonic())
            live = deployments.live_generation(deployment)
        if live != before:
            _LOG.info(
                "%s: %s",
                deployment,
                f"generation {live} is live" if live else "no longer live on this board",
            )
        return changed

    def refusals(self) -> list[dict[str, Any]]:
        """Return the last refusal of each refused deployment, as entries of a ``stats`` message."""
        with self._lock:
            return self._deployments.refusals()

    def note_refusal(
        self, deployment: str | None, generation: str | None, code: str, reason: str
    ) -> None:
        """Record why this board refused a deployment; do nothing if ``deployment`` is None."""
        if deployment is not None:
            refusal = Refusal(deployment, generation, str(code), reason, time.time())
            with self._lock:
                self._deployments.note_refusal(refusal)
