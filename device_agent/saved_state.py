"""The deployments on disk: saved after each change, loaded at the start of the agent.

All methods run in the jobs thread, or before the jobs thread starts.
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
    """Writes the deployments in memory to the state directory, and loads them at the start.

    Attributes:
        piece: File of the slice that a host sends for timing. The file is kept although no
            deployment needs it. None: no slice is being sent or timed.
    """

    def __init__(
        self, device: str, deployments: LockedDeployments, store: ArtifactStore, *, threads: int
    ) -> None:
        """Create the writer; no file changes.

        Args:
            device: This board's name in manifests.
            deployments: The deployments of this board.
            store: The state directory.
            threads: Number of threads of an interpreter.
        """
        self.piece: Artifact | None = None
        self._device = device
        self._deployments = deployments
        self._store = store
        self._threads = threads
        #: Deployments whose state on disk is out of date, because writing failed.
        self._unsaved: set[str] = set()

    def save(self, deployment: str) -> None:
        """Write the state of a deployment, and delete the files that are no longer needed."""
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
            _LOG.error("%s: cannot write the state to the disk: %s", deployment, error)
            self._unsaved.add(deployment)
        else:
            self._unsaved.discard(deployment)
        self.delete_unwanted()

    def save_all(self) -> None:
        """Write the state of every deployment."""
        with self._deployments.read() as deployments:
            names = deployments.names()
        for name in names:
            self.save(name)

    def delete_unwanted(self) -> None:
        """Delete the files that neither a deployment nor the slice to be timed needs.

        While a state on disk is out of date, all files stay: a restarted agent would load the old
        state with its files.
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
            _LOG.error("cannot delete files that are no longer needed: %s", error)

    def load(self) -> None:
        """Load the generations that were live or prepared when the previous process ended.

        If a generation cannot be read or loaded, the agent logs the reason and drops the
        generation.
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
            _LOG.error("%s: cannot load the saved generation: %s", deployment, error)
            self._deployments.note_refusal(deployment, generation, error.code, error.reason)
            return None
        _LOG.info("%s: loaded generation %s from disk", deployment, generation)
        return Generation(assignment, loaded)
