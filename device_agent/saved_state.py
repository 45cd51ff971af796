"""The deployments on disk: saved after each change, loaded when the agent starts.

All methods run in the jobs thread, or before it starts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from device_agent.assignment import read_assignment
from device_agent.deployments import Generation
from device_agent.load_stage import load_stage
from edge_core.contract.messages import CommandError

if TYPE_CHECKING:
    from device_agent.artifact_store import Artifact, ArtifactStore
    from device_agent.locked_deployments import LockedDeployments

_LOG = logging.getLogger("device-agent")


class SavedState:
    """Keeps the state directory equal to the deployments in memory.

    Attributes:
        piece: The slice that ``profile`` asked for last, until it was timed; its file stays.
    """

    def __init__(
        self, device: str, deployments: LockedDeployments, store: ArtifactStore, *, threads: int
    ) -> None:
        """Change nothing yet.

        Args:
            device: This board's name in manifests.
            deployments: What is saved and loaded.
            store: The state directory.
            threads: The number of threads that an interpreter uses.
        """
        self.piece: Artifact | None = None
        self._device = device
        self._deployments = deployments
        self._store = store
        self._threads = threads
        #: Deployments whose state on disk is not the present one.
        self._unsaved: set[str] = set()

    def save(self, deployment: str) -> None:
        """Write a deployment's state and delete the files that nothing needs any more."""
        with self._deployments.change() as deployments:
            deployments.drop_empty(deployment)
            state = {
                key: assignment.to_json()
                for key, assignment in deployments.state_to_save(deployment).items()
            }
        try:
            if state:
                self._store.write_state(deployment, state)
            else:
                self._store.delete_state(deployment)
        except OSError as error:
            _LOG.error("%s: the state can't be written: %s", deployment, error)
            self._unsaved.add(deployment)
        else:
            self._unsaved.discard(deployment)
        self.delete_unwanted()

    def save_all(self) -> None:
        """Write every deployment's state."""
        with self._deployments.read() as deployments:
            names = deployments.names()
        for name in names:
            self.save(name)

    def delete_unwanted(self) -> None:
        """Delete the files that no deployment and no slice to be timed needs.

        Nothing is deleted while a state on disk is an old one: a restarted agent would load that
        state.
        """
        if self._unsaved:
            return
        with self._deployments.read() as deployments:
            wanted = set(deployments.artifacts())
        if self.piece is not None:
            wanted.add(self.piece.sha256)
        try:
            self._store.keep_only(wanted)
        except OSError as error:
            _LOG.error("files that nothing needs can't be deleted: %s", error)

    def load(self) -> None:
        """Load the generations that were live or prepared when the agent ended.

        A generation that cannot be read or loaded is logged and left out.
        """
        for name, state in self._store.read_states().items():
            documents = state if isinstance(state, dict) else {}
            live = self._load_generation(name, documents.get("live"))
            prepared = self._load_generation(name, documents.get("prepared"))
            if live is None and prepared is None:
                self._store.delete_state(name)
                continue
            with self._deployments.change() as deployments:
                deployments.restore(name, live=live, prepared=prepared)

    def _load_generation(self, deployment: str, document: Any) -> Generation | None:
        if document is None:
            return None
        generation = None
        try:
            assignment = read_assignment(self._device, document)
            generation = assignment.manifest.generation
            loaded = tuple(
                load_stage(assignment, stage, self._store, self._threads)[0]
                for stage in assignment.stages
            )
        except CommandError as error:
            _LOG.error("%s: not served: %s", deployment, error)
            self._deployments.note_refusal(deployment, generation, error.code, error.reason)
            return None
        _LOG.info("%s: loaded generation %s from disk", deployment, generation)
        return Generation(assignment, loaded)
