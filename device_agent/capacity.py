"""Check that a board has the memory and storage for a generation, or for a slice to be timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from edge_core.contract.messages import CommandError, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from device_agent.artifact_store import Artifact, ArtifactStore
    from device_agent.assignment import Assignment
    from device_agent.timing.profiler import Piece

_MIB = 1024 * 1024
#: Storage that stays free for state files and the system, in bytes.
_STORAGE_MARGIN_BYTES = _MIB


class Capacity:
    """Refuses generations and slices that need more memory or storage than the board has free."""

    def __init__(self, device: str, store: ArtifactStore, ram_bytes: int | None) -> None:
        """Note how much memory the agent uses before it loads a model.

        Args:
            device: This board's name.
            store: The state directory.
            ram_bytes: Largest memory that the agent may use, loaded models included, in bytes.
                None: the board's free memory is the limit.
        """
        self._device = device
        self._store = store
        self._ram_bytes = ram_bytes
        self._base_rss_bytes = psutil.Process().memory_info().rss

    def check_generation(self, assignment: Assignment) -> None:
        """Check that the board can store and load its stages of a generation.

        Raises:
            CommandError: With ``no-memory`` or ``no-storage``: the board has too little.
        """
        needed_bytes = sum(
            max(stage.size_bytes, stage.predicted.ram_bytes - self._base_rss_bytes)
            for stage in assignment.stages
        )
        self._check_memory("its part of the model", needed_bytes)
        self._check_storage("its part of the model", assignment.artifacts().values())

    def check_piece(self, piece: Piece) -> int:
        """Check that the board can store and time a slice.

        Returns:
            The memory that stays free while the slice is loaded, in bytes.

        Raises:
            CommandError: With ``no-memory`` or ``no-storage``: the board has too little.
        """
        spare_bytes = self._check_memory("the slice", piece.ram_bytes)
        self._check_storage("the slice", [piece.file])
        return spare_bytes

    def _check_memory(self, what: str, needed_bytes: int) -> int:
        used_bytes = psutil.Process().memory_info().rss
        if self._ram_bytes is None:
            free_bytes, of = psutil.virtual_memory().available, "are free on the board"
        else:
            free_bytes, of = self._ram_bytes - used_bytes, "of the agent's --ram-mib are left"
        if needed_bytes > free_bytes:
            raise CommandError(
                ErrorCode.NO_MEMORY,
                f"Board {self._device} has too little memory: {what} needs "
                f"{needed_bytes / _MIB:.1f} MiB, but only {max(0, free_bytes) / _MIB:.1f} MiB "
                f"{of}. The agent and its loaded stages use {used_bytes / _MIB:.1f} MiB. Undeploy "
                "another model, or split the model over more boards.",
            )
        return int(free_bytes - needed_bytes)

    def _check_storage(self, what: str, files: Iterable[Artifact]) -> None:
        needed_bytes = sum(file.size_bytes - self._store.have_bytes(file) for file in files)
        free_bytes = self._store.free_bytes() - _STORAGE_MARGIN_BYTES
        if needed_bytes > free_bytes:
            raise CommandError(
                ErrorCode.NO_STORAGE,
                f"Board {self._device} has too little storage: {what} needs "
                f"{needed_bytes / _MIB:.1f} MiB, but only {max(0, free_bytes) / _MIB:.1f} MiB are "
                "free. Undeploy another model, or delete other files on the board.",
            )
