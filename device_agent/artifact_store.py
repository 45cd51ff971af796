"""The agent's state directory: files named by their SHA-256, and the state of each deployment.

```
state_dir/
  lock                        locked while an agent runs
  artifacts/{sha256}          a complete and checked file
  artifacts/{sha256}.part     an incomplete file; its length is the offset of the next chunk
  deployments/{name}.json     a deployment's live and prepared generation
```
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_core.contract.messages import CommandError, ErrorCode
from edge_core.contract.names import NAME_PATTERN
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


class StateDirError(EdgePartitionError):
    """The state directory cannot be used.

    Attributes:
        folder: Path of the directory.
    """

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        super().__init__(f"The state directory {folder} cannot be used: {reason}.")


@dataclass(frozen=True)
class Artifact:
    """A file that the agent needs: the model of a stage, or reference tensors.

    Attributes:
        sha256: SHA-256 of the file's content, in hexadecimal.
        size_bytes: Size of the complete file, in bytes.
    """

    sha256: str
    size_bytes: int


class ArtifactStore:
    """The files in the state directory of one agent."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if needed, and lock it.

        Raises:
            StateDirError: The folder cannot be written, or another agent uses it.
        """
        self.folder = folder
        self._artifacts = folder / "artifacts"
        self._deployments = folder / "deployments"
        try:
            for path in (folder, self._artifacts, self._deployments):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateDirError(
                folder, "another agent uses it; give each agent its own --state-dir"
            ) from None
        except OSError as error:
            raise StateDirError(
                folder, f"{error.strerror}; set another folder with --state-dir"
            ) from None

    # Artifacts

    def path(self, artifact: Artifact) -> Path:
        """Return the path of the complete artifact; the file may not exist yet."""
        return self._artifacts / artifact.sha256

    def have_bytes(self, artifact: Artifact) -> int:
        """Return how many bytes of the artifact are stored.

        A stored file that is larger than the artifact, or a complete file of another size, is
        deleted and counts as 0 bytes.
        """
        for path in (self.path(artifact), self._part(artifact)):
            if path.exists():
                size_bytes = path.stat().st_size
                complete = path == self.path(artifact)
                if size_bytes == artifact.size_bytes or (
                    not complete and size_bytes < artifact.size_bytes
                ):
                    return size_bytes
                path.unlink()
        return 0

    def append(self, artifact: Artifact, offset: int, data: bytes) -> int:
        """Append a chunk to an incomplete artifact; ignore a chunk that is already stored.

        Args:
            artifact: The artifact.
            offset: Position of the chunk's first byte in the file.
            data: The chunk.

        Returns:
            The stored size of the artifact, in bytes.

        Raises:
            CommandError: With ``bad-command``: the chunk does not start at the stored size, or ends
                beyond the artifact's size; with ``no-storage``: the chunk cannot be written to the
                disk; with ``checksum``: the complete file has another SHA-256 and was deleted.
        """
        have = self.have_bytes(artifact)
        if offset + len(data) <= have and data:
            return have
        if offset != have:
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"A chunk of the file {artifact.sha256[:12]} starts at byte {offset:,}; "
                f"expected byte {have:,}. Send the file from byte {have:,} on.",
            )
        if offset + len(data) > artifact.size_bytes:
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"A chunk of the file {artifact.sha256[:12]} ends at byte {offset + len(data):,}, "
                f"but the file has {artifact.size_bytes:,} bytes. Announce the file's full size.",
            )
        part = self._part(artifact)
        try:
            with part.open("ab") as file:
                file.write(data)
                have += len(data)
                if have == artifact.size_bytes:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CommandError(
                ErrorCode.NO_STORAGE,
                f"The file {artifact.sha256[:12]} of {artifact.size_bytes:,} bytes cannot be "
                f"stored: {error.strerror}. Free storage on this board, then send the file again.",
            ) from None
        if have == artifact.size_bytes:
            _check(artifact, part)
            part.replace(self.path(artifact))
            _fsync_folder(self._artifacts)
        return have

    def check(self, artifact: Artifact) -> None:
        """Check that an artifact is complete and that its content has the SHA-256.

        Raises:
            CommandError: With ``not-found``: the file is incomplete; with ``checksum``: the file is
                damaged and was deleted.
        """
        path = self.path(artifact)
        if self.have_bytes(artifact) != artifact.size_bytes or not path.exists():
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"The file {artifact.sha256[:12]} is not complete: "
                f"{self.have_bytes(artifact):,} of {artifact.size_bytes:,} bytes are stored. "
                "Send the rest of the file.",
            )
        _check(artifact, path)

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of a complete artifact."""
        return self.path(artifact).read_bytes()

    def keep_only(self, wanted: Collection[str]) -> None:
        """Delete every complete or incomplete artifact whose SHA-256 is not in ``wanted``."""
        for path in self._artifacts.iterdir():
            if path.name.removesuffix(".part") not in wanted:
                path.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Return the free space of the disk, in bytes."""
        return shutil.disk_usage(self.folder).free

    def _part(self, artifact: Artifact) -> Path:
        return self._artifacts / f"{artifact.sha256}.part"

    # State

    def write_state(self, deployment: str, state: dict[str, Any]) -> None:
        """Write the state of a deployment to the disk.

        After a power cut, the disk has either the whole old state or the whole new state.
        """
        path = self._deployments / f"{deployment}.json"
        temporary = path.with_suffix(".json.new")
        with temporary.open("w") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _fsync_folder(self._deployments)

    def delete_state(self, deployment: str) -> None:
        """Delete the state of a deployment, if there is one."""
        (self._deployments / f"{deployment}.json").unlink(missing_ok=True)

    def read_states(self) -> dict[str, Any]:
        """Return the saved states by deployment; the value None: the state cannot be read."""
        states: dict[str, Any] = {}
        for path in sorted(self._deployments.glob("*.json")):
            if NAME_PATTERN.fullmatch(path.stem):
                try:
                    states[path.stem] = json.loads(path.read_bytes())
                except (OSError, ValueError, RecursionError):
                    states[path.stem] = None
        return states


def _check(artifact: Artifact, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != artifact.sha256:
        path.unlink(missing_ok=True)
        raise CommandError(
            ErrorCode.CHECKSUM,
            f"A file has the SHA-256 {found[:12]}; expected {artifact.sha256[:12]}. The file is "
            "damaged and was deleted. Send the file again.",
        )


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
