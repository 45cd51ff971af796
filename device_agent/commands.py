"""Execute the commands that a host sends to this board, one at a time, in the jobs thread."""

from __future__ import annotations

import binascii
import logging
import time
from base64 import b64decode
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from device_agent.assignment import read_assignment, read_name, reading_fields
from device_agent.deployments import Generation
from device_agent.load_stage import load_stage
from device_agent.timing.profiler import read_piece, time_piece
from edge_core.contract.json_fields import Field
from edge_core.contract.messages import CommandError, ErrorCode
from edge_core.contract.names import NAME_PATTERN
from edge_core.program import heap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from device_agent.artifact_store import Artifact, ArtifactStore
    from device_agent.capacity import Capacity
    from device_agent.locked_deployments import LockedDeployments
    from device_agent.saved_state import SavedState
    from device_agent.timing.time_messages import MessageTimer

_LOG = logging.getLogger("device-agent")

#: Commands that give a deployment to this board. The ``stats`` messages show a refusal of such a
#: command until the board loads a generation of the deployment.
_TAKING = frozenset({"prepare", "store", "load"})


class Commands:
    """Executes commands and returns the fields of their answers."""

    def __init__(
        self,
        device: str,
        deployments: LockedDeployments,
        store: ArtifactStore,
        saved: SavedState,
        *,
        capacity: Capacity,
        timer: MessageTimer,
        threads: int,
    ) -> None:
        """Create the executor; no command runs yet.

        Args:
            device: This board's name in manifests.
            deployments: The deployments of this board.
            store: The state directory.
            saved: Writer of the deployments' state.
            capacity: Check of the board's free memory and storage.
            timer: Timer of messages between this board and the broker.
            threads: Number of threads of an interpreter.
        """
        self._device = device
        self._deployments = deployments
        self._store = store
        self._saved = saved
        self._capacity = capacity
        self._timer = timer
        self._threads = threads
        self._commands: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "prepare": self._prepare,
            "store": self._store_chunk,
            "load": self._load,
            "abort": self._abort,
            "remove": self._remove,
            "status": self._status,
            "profile": self._profile,
            "time-messages": self._time_messages,
        }

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Execute a command and return the fields of the answer.

        :mod:`edge_core.contract.messages` describes each command and its answer.

        Raises:
            CommandError: The command is unknown or wrong, or the board refuses the command.
        """
        name = command.get("command")
        if not isinstance(name, str) or name not in self._commands:
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"The command {name!r} is unknown; expected ping, {', '.join(self._commands)}.",
            )
        try:
            return self._commands[name](command)
        except CommandError as error:
            if name in _TAKING:
                self._deployments.note_refusal(*self._meant(command), error.code, error.reason)
            raise

    # The commands

    def _prepare(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Check memory and storage for a generation, and list the files that the host must send."""
        assignment = read_assignment(self._device, command)
        manifest = assignment.manifest
        with self._deployments.change() as deployments:
            deployments.begin_prepare(manifest.deployment)
        try:
            self._capacity.check_generation(assignment)
            with self._deployments.change() as deployments:
                deployments.expect_files(assignment)
        finally:
            self._saved.save(manifest.deployment)
        _LOG.info("%s: preparing generation %s", manifest.deployment, manifest.generation)
        return {
            "artifacts": [
                {**asdict(file), "have_bytes": self._store.have_bytes(file)}
                for file in assignment.artifacts().values()
            ],
            "needs": list(manifest.needs),
        }

    def _store_chunk(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Write a chunk of an announced file."""
        file = self._announced_file(command.get("sha256"))
        if file is None or command.get("size_bytes") != file.size_bytes:
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"No file {str(command.get('sha256'))[:12]} of {command.get('size_bytes')} bytes "
                "was announced; send `prepare` or `profile` first.",
            )
        with reading_fields():
            fields = Field(command, root="command")
            offset, data = fields["offset"].whole(), fields["data"].text()
        try:
            chunk = b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise CommandError(
                ErrorCode.BAD_COMMAND, f"The field `data` of a chunk is not base64: {error}."
            ) from None
        return {"have_bytes": self._store.append(file, offset, chunk)}

    def _load(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Load the stages of an incoming generation, and compare each with its reference output."""
        name, generation = read_name(command, "deployment"), read_name(command, "generation")
        with self._deployments.read() as deployments:
            assignment = deployments.incoming(name, generation)
        if assignment is None:
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"Generation {generation} of {name} is not being prepared; send `prepare` first.",
            )
        results = [
            load_stage(assignment, stage, self._store, self._threads) for stage in assignment.stages
        ]
        loaded = Generation(assignment, tuple(stage for stage, _ in results))
        with self._deployments.change() as deployments:
            deployments.finish_load(loaded, time.monotonic())
        self._saved.save(name)
        _LOG.info("%s: generation %s is prepared", name, generation)
        return {"stages": [asdict(report) for _, report in results]}

    def _abort(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Drop a generation that is not live."""
        name, generation = read_name(command, "deployment"), read_name(command, "generation")
        with self._deployments.change() as deployments:
            deployments.abort(name, generation)
        self._saved.save(name)
        _LOG.info("%s: generation %s is aborted", name, generation)
        return {}

    def _remove(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Drop all generations of a deployment."""
        name = read_name(command, "deployment")
        with self._deployments.change() as deployments:
            known = deployments.remove(name)
        if not known:
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"Board {self._device} has no generation of {name}: there is nothing to remove.",
            )
        self._saved.save(name)
        _LOG.info("%s: removed", name)
        return {}

    def _status(self, _command: Mapping[str, Any]) -> dict[str, Any]:
        """List the loaded generations."""
        with self._deployments.read() as deployments:
            return {"deployments": deployments.status()}

    def _profile(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the time of a slice of a model, or ask for the rest of the slice's file."""
        piece = read_piece(self._device, command)
        self._saved.piece = piece.file
        try:
            self._check_idle(force=piece.force)
            spare_bytes = self._capacity.check_piece(piece)
            have_bytes = self._store.have_bytes(piece.file)
            if have_bytes < piece.file.size_bytes:
                return {"have_bytes": have_bytes}
            self._store.check(piece.file)
            timed = time_piece(
                piece,
                self._store.path(piece.file),
                threads=self._threads,
                displaced_bytes=min(piece.displaced_bytes, spare_bytes // 2),
            )
        except BaseException:
            self._forget_piece()
            raise
        self._forget_piece()
        _LOG.info(
            "profile: the slice %.12s took %.3f ms per inference",
            piece.file.sha256,
            timed["invoke_ms"],
        )
        return timed

    def _time_messages(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the time of messages between this board and the broker."""
        self._check_idle(force=command.get("force") is True)
        return self._timer.answer(command)

    # Steps of several commands

    def _check_idle(self, *, force: bool) -> None:
        """Refuse a measurement while this board serves a deployment, unless ``force`` is set.

        Raises:
            CommandError: With ``busy``: the board serves a deployment.
        """
        with self._deployments.read() as deployments:
            live = deployments.live_names()
        if live and not force:
            raise CommandError(
                ErrorCode.BUSY,
                f"Board {self._device} serves {', '.join(live)}: timing would slow the requests "
                "down, and the requests would falsify the times. Undeploy first, or profile with "
                "--force.",
            )

    def _meant(self, command: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Return the names of the deployment and the generation that a command belongs to.

        A ``store`` command belongs to the incoming generation that needs the command's file. A name
        that is missing or not valid is None.
        """
        with self._deployments.read() as deployments:
            incoming = deployments.incoming_with(str(command.get("sha256")))
        if incoming is not None:
            return incoming.manifest.deployment, incoming.manifest.generation
        manifest = command.get("manifest")
        fields = manifest if isinstance(manifest, dict) else command
        deployment, generation = (
            value if isinstance(value, str) and NAME_PATTERN.fullmatch(value) else None
            for value in (fields.get("deployment"), fields.get("generation"))
        )
        return deployment, generation

    def _announced_file(self, sha256: Any) -> Artifact | None:
        piece = self._saved.piece
        if piece is not None and sha256 == piece.sha256:
            return piece
        if not isinstance(sha256, str):
            return None
        with self._deployments.read() as deployments:
            incoming = deployments.incoming_with(sha256)
        return incoming.artifacts()[sha256] if incoming is not None else None

    def _forget_piece(self) -> None:
        self._saved.piece = None
        self._saved.delete_unwanted()
        heap.give_back()
