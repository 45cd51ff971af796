"""Transitions of a deployment as a client knows it, by the messages that arrive."""

from __future__ import annotations

from dataclasses import replace

import pytest
from answer_manifests import manifest_of

from edge_core.contract.manifest import Manifest, TensorSpec
from edge_partition.client.deployment_state import DeploymentState
from edge_partition.client.errors import NotOpenError

SCORES = TensorSpec("scores", "float32", (1, 3))


def make_state(*boards_of_stages: tuple[str, ...]) -> DeploymentState:
    manifest = manifest_of(SCORES)
    stage = manifest.stages[0]
    stages = tuple(
        replace(stage, index=index, devices=devices)
        for index, devices in enumerate(boards_of_stages)
    )
    state = DeploymentState("m")
    state.begin(replace(manifest, stages=stages or manifest.stages))
    return state


def payload_of(manifest: Manifest) -> bytes:
    return manifest.to_json().encode()


def test_without_a_manifest_the_pipeline_is_not_open() -> None:
    with pytest.raises(NotOpenError):
        _ = DeploymentState("m").manifest


def test_an_empty_manifest_ends_the_deployment_and_a_new_one_resumes_it() -> None:
    state = make_state()
    first = state.manifest
    state.take_manifest(b"")
    assert state.ended == ("undeployed", "Deployment 'm' was undeployed.")
    assert state.manifest == first
    second = replace(first, generation="h")
    state.take_manifest(payload_of(second))
    assert state.ended is None
    assert state.manifest.generation == "h"


def test_a_manifest_with_other_outputs_ends_the_deployment_and_is_not_taken() -> None:
    state = make_state()
    first = state.manifest
    state.take_manifest(payload_of(manifest_of(replace(SCORES, shape=(1, 4)))))
    assert state.ended is not None
    code, reason = state.ended
    assert code == "replaced"
    assert reason.endswith("other inputs or outputs; open a new pipeline.")
    assert state.manifest == first
    state.take_manifest(payload_of(first))
    assert state.ended is None


def test_a_manifest_that_cannot_be_read_changes_nothing() -> None:
    state = make_state()
    first = state.manifest
    state.take_manifest(b"{")
    assert state.manifest is first
    assert state.ended is None


def test_a_stage_is_offline_when_all_its_boards_are() -> None:
    state = make_state(("a",), ("b", "c"))
    assert state.offline_stages() == []
    assert not state.has_offline_replica
    state.take_availability("b", is_online=False)
    assert state.offline_stages() == []
    assert state.has_offline_replica
    state.take_availability("c", is_online=False)
    assert [stage.index for stage in state.offline_stages()] == [1]
    assert not state.has_offline_replica
    state.take_availability("b", is_online=True)
    state.take_availability("a", is_online=False)
    assert [stage.index for stage in state.offline_stages()] == [0]
    assert state.has_offline_replica


def test_a_board_that_was_never_offline_may_come_online() -> None:
    state = make_state(("a",))
    state.take_availability("a", is_online=True)
    assert state.offline_stages() == []


@pytest.mark.parametrize(("word", "keeps_state"), [("", False), ("reset", False), ("keep", True)])
def test_the_manifest_says_whether_state_is_kept_between_requests(
    word: str, keeps_state: bool
) -> None:
    state = make_state()
    model = replace(state.manifest.model, state=word)
    state.begin(replace(state.manifest, model=model))
    assert state.keeps_state is keeps_state
