"""The state directory: files that arrive in chunks, and saved states."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from device_agent.artifact_store import Artifact, ArtifactStore, StateDirError
from edge_core.contract.messages import CommandError, ErrorCode

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 40


def artifact(data: bytes = DATA) -> Artifact:
    return Artifact(hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "state")


def test_a_file_from_chunks_is_checked_when_complete(store: ArtifactStore) -> None:
    file = artifact()
    assert store.have_bytes(file) == 0
    assert store.append(file, 0, DATA[:4000]) == 4000
    assert store.have_bytes(file) == 4000
    with pytest.raises(CommandError, match="not complete: 4,000 of 10,240") as raised:
        store.check(file)
    assert raised.value.code == ErrorCode.NOT_FOUND
    assert store.append(file, 4000, DATA[4000:]) == len(DATA)
    store.check(file)
    assert store.read(file) == DATA
    assert store.path(file).stat().st_size == len(DATA)


def test_a_chunk_that_is_already_stored_is_ignored(store: ArtifactStore) -> None:
    file = artifact()
    store.append(file, 0, DATA[:4000])
    assert store.append(file, 0, DATA[:4000]) == 4000
    assert store.append(file, 1000, DATA[1000:2000]) == 4000
    store.append(file, 4000, DATA[4000:])
    assert store.append(file, 4000, DATA[4000:]) == len(DATA)
    assert store.read(file) == DATA


@pytest.mark.parametrize(
    ("offset", "length", "words"), [(10, 5, "expected byte 0"), (0, 20_000, "ends at byte 20,000")]
)
def test_a_chunk_at_a_wrong_place_is_refused(
    store: ArtifactStore, offset: int, length: int, words: str
) -> None:
    with pytest.raises(CommandError, match=words) as raised:
        store.append(artifact(), offset, bytes(length))
    assert raised.value.code == ErrorCode.BAD_COMMAND
    assert store.have_bytes(artifact()) == 0


def test_a_file_with_another_checksum_is_deleted(store: ArtifactStore) -> None:
    file = artifact()
    with pytest.raises(CommandError, match="Send the file again") as raised:
        store.append(file, 0, bytes(len(DATA)))
    assert raised.value.code == ErrorCode.CHECKSUM
    assert store.have_bytes(file) == 0
    store.append(file, 0, DATA)
    store.path(file).write_bytes(bytes(len(DATA)))
    with pytest.raises(CommandError, match="and was deleted"):
        store.check(file)
    assert not store.path(file).exists()


def test_a_file_that_is_longer_than_announced_is_deleted(store: ArtifactStore) -> None:
    file = artifact()
    store.append(file, 0, DATA)
    store.path(file).write_bytes(DATA + b"more")
    assert store.have_bytes(file) == 0


def test_only_wanted_files_stay(store: ArtifactStore) -> None:
    wanted, other, partial = artifact(), artifact(b"other"), artifact(b"partial")
    store.append(wanted, 0, DATA)
    store.append(other, 0, b"other")
    store.append(partial, 0, b"par")
    store.keep_only({wanted.sha256})
    assert [store.have_bytes(each) for each in (wanted, other, partial)] == [len(DATA), 0, 0]


def test_states_are_replaced_and_a_damaged_state_is_none(store: ArtifactStore) -> None:
    store.write_state("net", {"live": 1})
    store.write_state("net", {"live": 2})
    store.write_state("gone", {})
    store.delete_state("gone")
    store.delete_state("never-there")
    folder = store.folder / "deployments"
    (folder / "damaged.json").write_text("{")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "a b.json").write_text(json.dumps({"live": 3}))
    assert store.read_states() == {"damaged": None, "deep": None, "net": {"live": 2}}
    assert not list(folder.glob("*.new"))


def test_two_agents_cannot_use_one_folder(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(StateDirError, match="give each agent its own --state-dir"):
        ArtifactStore(store.folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirError, match="set another folder with --state-dir"):
        ArtifactStore(tmp_path / "file")
