"""A board refuses a generation or slice that does not fit, with numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest
from board_deployments import assignment

from device_agent.artifact_store import ArtifactStore
from device_agent.capacity import Capacity
from device_agent.timing.profiler import Piece
from edge_core.contract.messages import CommandError, ErrorCode

if TYPE_CHECKING:
    from pathlib import Path

    from device_agent.assignment import Assignment

_MIB = 1024 * 1024
_AMPLE_BYTES = 1 << 50


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def generation(**stage_fields: int) -> Assignment:
    taken = assignment("g1", ("pi-1",))
    return replace(taken, stages=(replace(taken.stages[0], **stage_fields),))


def test_a_generation_that_fits_is_accepted(store: ArtifactStore) -> None:
    Capacity("pi-1", store, _AMPLE_BYTES).check_generation(generation())


def test_too_little_memory_is_refused_with_the_need_and_the_rest(store: ArtifactStore) -> None:
    large = generation(size_bytes=512 * _MIB)
    limit_bytes = psutil.Process().memory_info().rss + 100 * _MIB
    with pytest.raises(CommandError) as refused:
        Capacity("pi-1", store, limit_bytes).check_generation(large)
    assert refused.value.code == ErrorCode.NO_MEMORY
    assert "Board pi-1 has too little memory" in refused.value.reason
    assert "its part of the model needs 512.0 MiB" in refused.value.reason
    assert "of the agent's --ram-mib are left" in refused.value.reason


def test_the_boards_free_memory_is_the_limit_without_an_option(store: ArtifactStore) -> None:
    with pytest.raises(CommandError, match="are free on the board") as refused:
        Capacity("pi-1", store, None).check_generation(generation(size_bytes=1 << 48))
    assert refused.value.code == ErrorCode.NO_MEMORY


def test_too_little_storage_is_refused_with_the_need(store: ArtifactStore) -> None:
    with pytest.raises(CommandError) as refused:
        Capacity("pi-1", store, 1 << 62).check_generation(generation(size_bytes=1 << 60))
    assert refused.value.code == ErrorCode.NO_STORAGE
    assert (
        "too little storage: its part of the model needs 1099511627776.0 MiB"
        in refused.value.reason
    )


def test_a_slice_leaves_the_rest_of_the_memory(store: ArtifactStore) -> None:
    stage = generation(size_bytes=10 * _MIB).stages[0]
    piece = Piece(stage, displaced_bytes=0, max_s=1.0, force=False)
    limit_bytes = psutil.Process().memory_info().rss + 100 * _MIB
    spare_bytes = Capacity("pi-1", store, limit_bytes).check_piece(piece)
    assert 50 * _MIB < spare_bytes < 90 * _MIB
    with pytest.raises(CommandError, match="the slice needs"):
        Capacity("pi-1", store, 1).check_piece(piece)
