"""The lock around the deployments of a board."""

from __future__ import annotations

import threading

from board_deployments import assignment, generation_of

from device_agent.locked_deployments import LockedDeployments


def test_a_change_replaces_all_routes() -> None:
    held = LockedDeployments("pi-1")
    taken = assignment("g1", ("pi-1",))
    with held.change() as deployments:
        deployments.restore("net", live=generation_of(taken), prepared=None)
    before = held.served_stages
    assert before["net", 0].serves == "g1"
    assert held.manifest_arrived("net", b"")
    assert before["net", 0].serves == "g1"
    assert held.served_stages == {}


def test_a_manifest_that_cannot_be_read_is_a_refusal() -> None:
    held = LockedDeployments("pi-1")
    assert not held.manifest_arrived("net", b"{")
    (refusal,) = held.refusals()
    assert (refusal["deployment"], refusal["code"]) == ("net", "bad-payload")


def test_a_manifest_that_names_another_deployment_changes_nothing() -> None:
    held = LockedDeployments("pi-1")
    taken = assignment("g1", ("pi-1",))
    with held.change() as deployments:
        deployments.restore("net", live=generation_of(taken), prepared=None)
    other = assignment("g2", ("pi-1",), name="other").manifest
    assert not held.manifest_arrived("net", other.to_json().encode())
    assert held.served_stages["net", 0].live_generation == "g1"


def test_one_thread_at_a_time_changes_the_deployments() -> None:
    held = LockedDeployments("pi-1")
    entered = threading.Event()
    with held.change():
        thread = threading.Thread(target=lambda: (held.expire(), entered.set()))
        thread.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)
    thread.join()
