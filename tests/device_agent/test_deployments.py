"""The state machine of a board's deployments: every transition, with times as arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from board_deployments import assignment, generation_of, load, manifest

from device_agent.deployments import DRAIN_S, Deployments, Refusal, StageTopics
from edge_core.contract.manifest import NEEDS_ROUTE

if TYPE_CHECKING:
    from device_agent.assignment import Assignment


def states(held: Deployments) -> dict[str, str]:
    return {item["generation"]: item["state"] for item in held.status()}


def served(held: Deployments, index: int = 0) -> str | None:
    route = held.served_stages().get(("net", index))
    return route.serves if route else None


@pytest.fixture
def held() -> Deployments:
    return Deployments("pi-1")


def test_files_are_expected_from_prepare_until_load(held: Deployments) -> None:
    taken = assignment("g1", ("pi-1",))
    held.begin_prepare("net")
    assert held.incoming("net", "g1") is None
    held.expect_files(taken)
    assert held.incoming("net", "g1") is taken
    assert held.incoming("net", "g2") is None
    assert held.incoming_with(taken.stages[0].sha256) is taken
    assert held.incoming_with("c" * 64) is None
    assert set(held.artifacts()) == {taken.stages[0].sha256, "a" * 64, "b" * 64}
    held.finish_load(generation_of(taken), 0.0)
    assert held.incoming("net", "g1") is None
    assert states(held) == {"g1": "prepared"}


def test_a_prepared_generation_answers_only_after_its_manifest(held: Deployments) -> None:
    taken = assignment("g1", ("pi-1",))
    load(held, taken)
    assert served(held) is None
    assert held.live_generation("net") is None
    assert held.follow_manifest("net", taken.manifest, 1.0)
    assert states(held) == {"g1": "live"}
    assert served(held) == "g1"
    assert held.live_names() == ["net"]


def test_a_generation_is_live_at_once_if_its_manifest_came_before_the_load(
    held: Deployments,
) -> None:
    taken = assignment("g1", ("pi-1",))
    held.begin_prepare("net")
    held.expect_files(taken)
    held.follow_manifest("net", taken.manifest, 0.0)
    held.finish_load(generation_of(taken), 1.0)
    assert states(held) == {"g1": "live"}


def test_a_repeated_manifest_changes_nothing(held: Deployments) -> None:
    taken = assignment("g1", ("pi-1",))
    load(held, taken)
    held.follow_manifest("net", taken.manifest, 1.0)
    assert not held.follow_manifest("net", taken.manifest, 2.0)


def test_the_previous_generation_answers_until_it_has_drained(held: Deployments) -> None:
    old, new = assignment("g1", ("pi-1",)), assignment("g2", ("pi-1",))
    load(held, old)
    held.follow_manifest("net", old.manifest, 0.0)
    load(held, new)
    assert states(held) == {"g1": "live", "g2": "prepared"}
    held.follow_manifest("net", new.manifest, 5.0)
    assert states(held) == {"g2": "live", "g1": "draining"}
    assert set(held.served_stages()["net", 0].generations) == {"g1", "g2"}
    assert not held.expire(5.0 + DRAIN_S - 0.1)
    assert held.expire(5.0 + DRAIN_S)
    assert states(held) == {"g2": "live"}
    assert not held.expire(5.0 + DRAIN_S + 1)


def test_a_roll_back_makes_a_draining_generation_live_again(held: Deployments) -> None:
    old, new = assignment("g1", ("pi-1",)), assignment("g2", ("pi-1",))
    load(held, old)
    held.follow_manifest("net", old.manifest, 0.0)
    load(held, new)
    held.follow_manifest("net", new.manifest, 1.0)
    held.follow_manifest("net", old.manifest, 2.0)
    assert states(held) == {"g1": "live", "g2": "draining"}


def test_a_generation_that_other_boards_run_is_elsewhere(held: Deployments) -> None:
    old, new = assignment("g1", ("pi-1",)), manifest("g2", ("pi-2",))
    load(held, old)
    held.follow_manifest("net", old.manifest, 0.0)
    held.follow_manifest("net", new, 1.0)
    route = held.served_stages()["net", 0]
    assert (route.live_generation, route.serves) == ("g2", "g1")
    assert route.elsewhere == {"g2"}
    held.expire(1.0 + DRAIN_S)
    assert held.served_stages() == {}


def test_a_cleared_manifest_ends_the_live_generation_without_draining(held: Deployments) -> None:
    taken = assignment("g1", ("pi-1",))
    load(held, taken)
    held.follow_manifest("net", taken.manifest, 0.0)
    assert held.follow_manifest("net", None, 1.0)
    assert states(held) == {}
    held.drop_empty("net")
    assert held.names() == set()


def test_the_manifest_of_a_deployment_that_is_not_here_is_ignored(held: Deployments) -> None:
    assert not held.follow_manifest("other", manifest("g1", ("pi-1",), name="other"), 0.0)
    assert held.names() == set()


def test_prepare_drops_the_prepared_generation_and_keeps_the_live_one(held: Deployments) -> None:
    live, prepared = assignment("g1", ("pi-1",)), assignment("g2", ("pi-1",))
    load(held, live)
    held.follow_manifest("net", live.manifest, 0.0)
    load(held, prepared)
    held.begin_prepare("net")
    assert states(held) == {"g1": "live"}


@pytest.mark.parametrize("generation", ["g1", "g2", "g3"])
def test_abort_drops_one_generation_that_is_not_live(held: Deployments, generation: str) -> None:
    load(held, assignment("g1", ("pi-1",)))
    held.follow_manifest("net", manifest("g1", ("pi-1",)), 0.0)
    load(held, assignment("g2", ("pi-1",)))
    held.expect_files(assignment("g3", ("pi-1",)))
    held.abort("net", generation)
    assert ("g2" in states(held)) == (generation != "g2")
    assert (held.incoming("net", "g3") is None) == (generation == "g3")
    assert states(held)["g1"] == "live"
    held.abort("other", generation)


def test_remove_drops_all_generations_of_a_deployment(held: Deployments) -> None:
    load(held, assignment("g1", ("pi-1",)))
    assert held.remove("net")
    assert not held.remove("net")
    assert (held.names(), held.artifacts(), held.served_stages()) == (set(), {}, {})


def routed(taken: Assignment) -> Assignment:
    return replace(taken, manifest=replace(taken.manifest, needs=(NEEDS_ROUTE,)))


def test_a_shared_stage_is_subscribed_to_only_while_it_is_live(held: Deployments) -> None:
    taken = assignment("g1", ("pi-1",), ("pi-1", "pi-2"))
    load(held, taken)
    alone = StageTopics(1, is_own=False)
    assert held.stage_topics() == {
        ("net", 0): alone,
        ("net", 1): StageTopics(0, is_own=False, is_replicated=True),
    }
    held.follow_manifest("net", taken.manifest, 0.0)
    assert held.stage_topics() == {
        ("net", 0): alone,
        ("net", 1): StageTopics(2, is_own=False, is_replicated=True),
    }


def test_a_stage_with_routes_has_a_topic_of_its_own_as_soon_as_it_is_prepared(
    held: Deployments,
) -> None:
    taken = routed(assignment("g1", ("pi-1", "pi-2"), ("pi-1", "pi-2", "pi-3")))
    load(held, taken)
    own = {
        ("net", 0): StageTopics(0, is_own=True, is_replicated=True),
        ("net", 1): StageTopics(0, is_own=True, is_replicated=True),
    }
    assert held.stage_topics() == own
    held.follow_manifest("net", taken.manifest, 0.0)
    # Only the first stage takes requests without a route.
    first = StageTopics(2, is_own=True, is_replicated=True)
    assert held.stage_topics() == {**own, ("net", 0): first}


def test_the_first_board_follows_the_replicas_of_later_stages(held: Deployments) -> None:
    load(held, routed(assignment("g1", ("pi-1", "pi-9"), ("pi-1", "pi-2"), ("pi-3",))))
    assert held.later_boards() == {"pi-2"}
    load(held, routed(assignment("g1", ("pi-4",), ("pi-1", "pi-5"), name="b")))
    assert held.later_boards() == {"pi-2"}


def test_live_manifests_that_the_broker_did_not_send_are_unconfirmed(held: Deployments) -> None:
    first, second = assignment("g1", ("pi-1",)), assignment("g1", ("pi-2",), ("pi-1",), name="b")
    for taken in (first, second):
        load(held, taken)
        held.follow_manifest(taken.manifest.deployment, taken.manifest, 0.0)
    assert held.unconfirmed() == []
    held.expect_manifests()
    # Only the board of stage 0 publishes the manifest of a deployment again.
    assert held.unconfirmed() == [first.manifest]
    held.follow_manifest("net", first.manifest, 1.0)
    assert held.unconfirmed() == []


def test_a_restarted_agent_serves_the_saved_generations(held: Deployments) -> None:
    live, prepared = assignment("g1", ("pi-1",)), assignment("g2", ("pi-1",))
    load(held, live)
    held.follow_manifest("net", live.manifest, 0.0)
    load(held, prepared)
    assert held.state_to_save("net") == {"live": live, "prepared": prepared}
    assert held.state_to_save("other") == {}
    restarted = Deployments("pi-1")
    restarted.restore("net", live=generation_of(live), prepared=generation_of(prepared))
    assert states(restarted) == {"g1": "live", "g2": "prepared"}
    assert served(restarted) == "g1"
    restarted.restore("other", live=None, prepared=None)
    assert restarted.names() == {"net"}


def test_the_last_refusal_of_each_deployment_is_kept_until_it_is_loaded(held: Deployments) -> None:
    for number in range(12):
        held.note_refusal(Refusal(f"net-{number}", "g1", "no-memory", "x" * 500, 1.23456))
    assert [item["deployment"] for item in held.refusals()] == [f"net-{n}" for n in range(4, 12)]
    assert held.refusals()[0]["reason"] == "x" * 200
    assert held.refusals()[0]["time_s"] == 1.235
    held.note_refusal(Refusal("net-4", "g2", "no-storage", "full", 2.0))
    assert held.refusals()[-1]["code"] == "no-storage"
    load(held, assignment("g1", ("pi-1",), name="net-4"))
    assert "net-4" not in {item["deployment"] for item in held.refusals()}
    held.remove("net-5")
    assert "net-5" not in {item["deployment"] for item in held.refusals()}
