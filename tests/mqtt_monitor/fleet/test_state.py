from __future__ import annotations

import json
from typing import Any

import pytest
from fleet_messages import (
    START_S,
    Watched,
    arrival,
    availability,
    manifest,
    profile,
    stage,
    stats,
)

from mqtt_monitor.fleet.arrival import Arrival
from mqtt_monitor.fleet.limits import MAX_DEPLOYMENTS, MAX_DEVICES, MAX_STAGES


def kinds(watched: Watched) -> list[str]:
    return [str(event.kind) for event in watched.at(1000).events]


def test_a_retained_state_is_no_event_and_a_change_is() -> None:
    watched = Watched().tell(availability(0, "pi-1", b"online", retained=True))
    assert watched.at(1).devices["pi-1"].since_s is None
    watched.tell(availability(7, "pi-1", b"offline"))
    device = watched.at(8).devices["pi-1"]
    assert (device.state, device.since_s) == ("offline", START_S + 7)
    watched.tell(availability(9, "pi-1", b"online"), availability(9, "pi-1", b"online"))
    assert kinds(watched) == ["offline", "online"]
    assert [event.number for event in watched.at(9).events] == [1, 2]


def test_a_board_with_cleared_messages_is_removed() -> None:
    watched = Watched().tell(
        availability(0, "pi-1", b"online"), profile(0, "pi-1"), stats(5, "pi-1", 1, stage(0, 1))
    )
    watched.tell(availability(9, "pi-1", b""), arrival(9, "device/pi-1/profile", b""))
    assert not watched.at(10).devices


def test_rates_use_the_boards_own_clock() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]), availability(0, "pi-1", b"online"))
    watched.tell(stats(5, "pi-1", 1, stage(0, 100)))
    # The message took 4 s on the network; the board counted for 5 s.
    watched.tell(stats(14, "pi-1", 2, stage(0, 150, errors={"expired": 5})))
    fleet = watched.at(15)
    measured = fleet.deployments["net"].stages[0]
    assert measured.requests_per_s == pytest.approx(10)
    assert measured.errors_per_s == pytest.approx(1)
    assert measured.output.bytes_per_s == pytest.approx(10 * 64 * 4)
    assert measured.input.bytes_per_s == pytest.approx(11 * 64 * 4)
    assert fleet.deployments["net"].requests_per_s == measured.requests_per_s
    assert measured.boards[0].errors_total == (("expired", 5),)


def test_one_message_is_enough_for_a_rate_with_a_count_of_the_period() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]))
    watched.tell(stats(5, "pi-1", 9, stage(0, 900, invoke_ms={"mean": 4, "max": 5, "count": 20})))
    assert watched.board(6, 0).requests_per_s == pytest.approx(4)
    assert watched.board(6, 0).requests_total == 900
    assert watched.board(6, 0).invoke_ms == 4


def test_a_restart_makes_no_rate_negative_and_no_total_smaller() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]))
    watched.tell(stats(5, "pi-1", 100, stage(0, 5000)), stats(10, "pi-1", 101, stage(0, 5050)))
    before = watched.board(11, 0)
    # After a restart: 30 requests in 10 s.
    watched.tell(stats(25, "pi-1", 2, stage(0, 30, mean_ms=20.0)))
    after = watched.board(26, 0)
    assert after.requests_per_s == pytest.approx(3)
    assert after.requests_total == before.requests_total + 30
    assert after.invoke_seconds_total == pytest.approx(before.invoke_seconds_total + 30 * 0.02)
    assert after.invoke_ms == pytest.approx(20)


def test_a_restart_is_seen_by_the_instance_and_is_one_event() -> None:
    watched = Watched().tell(profile(0, "pi-1"), stats(5, "pi-1", 9), stats(10, "pi-1", 10))
    watched.tell(profile(20, "pi-1", instance="b" * 32), stats(25, "pi-1", 1))
    assert watched.at(26).devices["pi-1"].restarts == 1
    assert kinds(watched) == ["restarted"]


def test_a_restart_is_seen_by_the_uptime_without_an_instance() -> None:
    watched = Watched().tell(stats(5, "pi-1", 9), stats(10, "pi-1", 1))
    assert watched.at(11).devices["pi-1"].restarts == 1
    assert kinds(watched) == ["restarted"]


def test_lost_statistics_are_counted_except_while_disconnected() -> None:
    watched = Watched().tell(stats(5, "pi-1", 1, stage(0, 10)), stats(15, "pi-1", 3, stage(0, 30)))
    assert watched.at(16).devices["pi-1"].missed_stats == 1
    watched.state.note_broker(START_S + 16, connected=False, reason="gone")
    assert not watched.at(17).broker.connected
    watched.state.note_broker(START_S + 40, connected=True)
    watched.tell(stats(45, "pi-1", 9, stage(0, 90)))
    assert watched.at(46).devices["pi-1"].missed_stats == 1
    assert kinds(watched) == ["broker-away", "broker-back"]


def test_names_not_published_after_a_reconnection_are_removed() -> None:
    watched = Watched().tell(
        availability(0, "pi-1", b"online"),
        availability(0, "pi-2", b"online"),
        manifest(0, ["pi-1"]),
        manifest(0, ["pi-2"], name="other", generation="g2"),
    )
    watched.state.note_broker(START_S + 10, connected=False, reason="gone")
    watched.state.note_broker(START_S + 20, connected=True)
    watched.tell(availability(20, "pi-1", b"online", retained=True), manifest(20, ["pi-1"]))
    assert set(watched.at(21).deployments) == {"net", "other"}
    # Disconnected again before the wait ended: nothing is removed.
    watched.state.note_broker(START_S + 22, connected=False, reason="gone")
    assert set(watched.at(60).deployments) == {"net", "other"}
    watched.state.note_broker(START_S + 70, connected=True)
    watched.tell(availability(71, "pi-1", b"online", retained=True), manifest(71, ["pi-1"]))
    assert set(watched.at(100).deployments) == {"net"}
    assert set(watched.at(100).devices) == {"pi-1"}
    assert kinds(watched)[-1] == "undeployed"


def test_means_stay_correct_after_lost_statistics() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]))
    watched.tell(stats(5, "pi-1", 1, stage(0, 10, invoke_total_ms=100.0)))
    late = stage(0, 20, invoke_total_ms=400.0, invoke_ms={"mean": 99.0, "max": 99.0})
    watched.tell(stats(20, "pi-1", 4, late))
    assert watched.board(21, 0).invoke_ms == pytest.approx(30)


def test_agents_without_sums_have_their_means() -> None:
    def old(requests: int, mean_ms: float) -> dict[str, object]:
        entry = stage(0, requests, invoke_ms={"mean": mean_ms, "max": mean_ms})
        del entry["invoke_total_ms"], entry["queue_total_ms"]
        return entry

    watched = Watched().tell(manifest(0, ["pi-1"]))
    watched.tell(stats(5, "pi-1", 1, old(10, 7.0)), stats(10, "pi-1", 2, old(30, 8.0)))
    assert watched.board(11, 0).invoke_ms == pytest.approx(8)
    assert watched.board(11, 0).invoke_seconds_total == pytest.approx(20 * 0.008)


def test_a_repeated_message_changes_nothing() -> None:
    second = stats(10, "pi-1", 2, stage(0, 30))
    once = Watched().tell(manifest(0, ["pi-1"]), stats(5, "pi-1", 1, stage(0, 10)), second)
    twice = Watched().tell(manifest(0, ["pi-1"]), stats(5, "pi-1", 1, stage(0, 10)), second, second)
    assert once.at(11).deployments == twice.at(11).deployments
    assert once.board(11, 0).requests_per_s == pytest.approx(4)


def test_old_values_are_not_shown() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]), availability(0, "pi-1", b"online"))
    watched.tell(stats(5, "pi-1", 1, stage(0, 10)), stats(10, "pi-1", 2, stage(0, 20)))
    assert watched.at(20).devices["pi-1"].fresh
    assert watched.board(20, 0).requests_per_s is not None
    later = watched.at(40)
    assert not later.devices["pi-1"].fresh
    assert later.devices["pi-1"].load is not None
    assert later.deployments["net"].stages[0].requests_per_s is None
    assert later.deployments["net"].stages[0].boards[0].requests_total == 20


def test_replicas_are_summed_and_averaged_by_their_requests() -> None:
    watched = Watched().tell(manifest(0, ["pi-1", "pi-2"]))
    for name, count, invoke_ms in (("pi-1", 30, 10.0), ("pi-2", 10, 50.0)):
        watched.tell(stats(5, name, 1, stage(0, 0)))
        watched.tell(stats(10, name, 2, stage(0, count, mean_ms=invoke_ms)))
    measured = watched.at(11).deployments["net"].stages[0]
    assert measured.requests_per_s == pytest.approx(8)
    assert measured.invoke_ms == pytest.approx((30 * 10 + 10 * 50) / 40)


def test_the_bottleneck_is_measured_if_all_stages_are_and_planned_otherwise() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"], ["pi-2"], ["pi-3"]))
    assert watched.at(1).deployments["net"].bottleneck == 0
    for index, name in enumerate(("pi-1", "pi-2", "pi-3")):
        watched.tell(stats(5, name, 1, stage(index, 0)))
        invoke_ms = 30.0 if name == "pi-2" else 5.0
        watched.tell(stats(10, name, 2, stage(index, 10, mean_ms=invoke_ms)))
    assert watched.at(11).deployments["net"].bottleneck == 1


def test_a_deployment_is_broken_when_no_board_serves_a_stage() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"], ["pi-2", "pi-3"]))
    for name in ("pi-1", "pi-2", "pi-3"):
        watched.tell(availability(0, name, b"online"))
    assert watched.at(1).deployments["net"].state == "live"
    watched.tell(availability(2, "pi-2", b"offline"))
    assert watched.at(3).deployments["net"].state == "live"
    watched.tell(stats(5, "pi-3", 1))
    assert watched.at(6).deployments["net"].state == "broken"


def test_a_board_with_statistics_and_no_availability_serves() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]))
    assert watched.at(1).deployments["net"].state == "broken"
    watched.tell(stats(5, "pi-1", 1, stage(0, 1)))
    assert watched.at(6).devices["pi-1"].state == "unknown"
    assert watched.at(6).deployments["net"].state == "live"


def test_deployments_are_added_replaced_and_removed_with_events() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]))
    watched.tell(manifest(5, ["pi-1"], ["pi-2"], generation="g2", retained=False))
    deployment = watched.at(6).deployments["net"]
    assert (deployment.generation, deployment.since_s) == ("g2", START_S + 5)
    assert len(deployment.stages) == 2
    watched.tell(arrival(8, "deployment/net/manifest", b""))
    assert not watched.at(9).deployments
    watched.tell(manifest(10, ["pi-1"], retained=False))
    assert kinds(watched) == ["redeployed", "undeployed", "deployed"]


def test_a_manifest_of_another_schema_leaves_the_plan_and_is_a_problem() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]))
    watched.tell(arrival(5, "deployment/net/manifest", {"schema": 2, "deployment": "net"}))
    deployment = watched.at(6).deployments["net"]
    assert deployment.generation == "g1"
    assert "schema 2" in (deployment.problem or "")
    watched.tell(arrival(7, "deployment/new/manifest", {"schema": 2, "deployment": "new"}))
    assert watched.at(8).deployments["new"].state == "unreadable"
    assert kinds(watched) == ["unreadable-manifest", "unreadable-manifest"]


def test_a_generation_mismatch_is_one_event_after_a_grace_period() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]))
    watched.tell(manifest(5, ["pi-1"], generation="g2", retained=False))
    watched.tell(stats(8, "pi-1", 1, stage(0, 1)))
    assert kinds(watched) == ["redeployed"]
    watched.tell(stats(25, "pi-1", 2, stage(0, 1)), stats(30, "pi-1", 3, stage(0, 1)))
    assert kinds(watched) == ["redeployed", "generation-mismatch"]


def test_many_errors_are_an_event_and_few_are_not() -> None:
    watched = Watched().tell(stats(5, "pi-1", 1, stage(0, 0)))
    watched.tell(stats(10, "pi-1", 2, stage(0, 100, errors={"expired": 3})))
    watched.tell(stats(15, "pi-1", 3, stage(0, 500, errors={"expired": 13})))
    assert kinds(watched) == []
    watched.tell(stats(20, "pi-1", 4, stage(0, 510, errors={"expired": 43})))
    watched.tell(stats(25, "pi-1", 5, stage(0, 510, errors={"expired": 73})))
    (event,) = watched.at(26).events
    assert event.text == "Board pi-1 answered 30 requests for net stage 0 with errors."


def test_results_give_requests_with_their_stages() -> None:
    trace = [
        {"stage": 0, "device": "pi-1", "queue_ms": 0.5, "invoke_ms": 10.0},
        {"stage": 1, "device": "pi-2", "queue_ms": 0.25, "invoke_ms": 4.25},
    ]
    user = {"generation": "g1", "trace": json.dumps(trace)}
    topic = "edge/v1/client/me/result"
    result = Arrival(START_S + 3, topic, b"\0" * 9, correlation_data=b"\1\2", user=user)
    refused = Arrival(START_S + 4, topic, b"Too late.", user={"error": "expired"})
    report = arrival(
        5,
        "client/you/trace",
        {"request": "07", "generation": "g1", "latency_ms": 17.5, "trace": trace},
    )
    watched = Watched().tell(manifest(0, ["pi-1"], ["pi-2"]), result, refused, report)
    first, second, third = watched.at(6).requests
    assert (first.client, first.request, first.deployment) == ("me", "0102", "net")
    assert [item.device for item in first.stages] == ["pi-1", "pi-2"]
    assert first.stages_ms == pytest.approx(15)
    assert first.latency_ms is None
    assert (second.error, second.reason) == ("expired", "Too late.")
    assert (third.client, third.latency_ms, third.stages_ms) == ("you", 17.5, 15)


def test_a_request_with_a_result_and_a_report_is_kept_once() -> None:
    trace = [{"stage": 0, "device": "pi-1", "queue_ms": 0.5, "invoke_ms": 10.0}]
    result = Arrival(
        START_S + 3,
        "edge/v1/client/me/result",
        b"",
        correlation_data=b"\7",
        user={"trace": json.dumps(trace)},
    )
    report = arrival(3, "client/me/trace", {"request": "07", "latency_ms": 17.5, "trace": trace})
    for order in ([result, report], [report, result]):
        (request,) = Watched().tell(*order).at(4).requests
        assert request.latency_ms == 17.5


def test_a_refusal_in_an_answer_is_an_event() -> None:
    answer = {"ok": False, "code": "no-memory", "reason": "Board pi-3 has 12 MiB; needs 40."}
    watched = Watched().tell(arrival(1, "client/edge-host-1/result", answer))
    watched.tell(arrival(2, "client/edge-host-1/result", {"ok": False, "code": "not-found"}))
    (event,) = watched.at(3).events
    assert event.text == "A board refused a deployment: Board pi-3 has 12 MiB; needs 40."


def test_a_reported_refusal_is_one_event_and_stays_with_the_board() -> None:
    told = {
        "deployment": "net", "generation": "g2", "code": "no-memory",
        "reason": "Board pi-1 has too little memory.", "time_s": START_S - 497.0,
    }  # fmt: skip
    slow = {"uptime_s": None, "refusals": [told]}
    watched = Watched().tell(stats(1, "pi-1", 1, refusals=[]))
    for at_s, sequence in ((5, 2), (10, 3)):
        # The board's clock is 500 s behind.
        watched.tell(stats(at_s, "pi-1", sequence, **slow, time_s=START_S + at_s - 500))
    answer = {"ok": False, "code": "no-memory", "reason": "Board pi-1 has too little memory."}
    watched.tell(arrival(11, "client/edge-host-1/result", answer))
    fleet = watched.at(12)
    (event,) = fleet.events
    assert (event.kind, event.device, event.deployment) == ("refused", "pi-1", "net")
    assert event.text == "Board pi-1 refused deployment net: Board pi-1 has too little memory."
    (refusal,) = fleet.devices["pi-1"].refusals
    assert (refusal.generation, refusal.code) == ("g2", "no-memory")
    assert refusal.at_s == pytest.approx(START_S + 3)
    # The next deployment is refused for the same reason; the one after that is accepted.
    watched.tell(stats(15, "pi-1", 4, refusals=[{**told, "time_s": START_S - 490.0}]))
    assert [event.number for event in watched.at(16).events] == [1, 2]
    watched.tell(stats(20, "pi-1", 5, refusals=[]))
    assert watched.at(21).devices["pi-1"].refusals == ()


def test_an_old_refusal_is_no_event_after_the_monitors_start() -> None:
    told = {"deployment": "net", "code": "checksum", "reason": "No.", "time_s": START_S - 600.0}
    fleet = Watched().tell(stats(1, "pi-1", 9, refusals=[told])).at(2)
    assert fleet.events == ()
    assert fleet.devices["pi-1"].refusals[0].at_s == pytest.approx(START_S - 600)


@pytest.mark.parametrize(
    "refusals",
    [None, 7, {}, [7], [{}], [{"deployment": "a/b", "time_s": 1}], [{"deployment": "net"}] * 99],
)
def test_damaged_refusals_are_ignored(refusals: Any) -> None:
    watched = Watched().tell(stats(1, "pi-1", 1), stats(5, "pi-1", 2, refusals=refusals))
    assert watched.at(6).devices["pi-1"].refusals == ()
    assert watched.at(6).events == ()


def test_a_links_rates_are_differences_of_its_counts() -> None:
    def link(received: int, **fields: Any) -> dict[str, Any]:
        return {"interface": "wlan0", "received_bytes": received, "sent_bytes": 10, **fields}

    def shown(at_s: float, sequence: int, told: Any) -> Any:
        watched.tell(stats(at_s, "pi-1", sequence, link=told))
        load = watched.at(at_s + 1).devices["pi-1"].load
        assert load is not None
        return load.link

    watched = Watched()
    first = shown(5, 1, link(10**9, signal_dbm=-61.0, speed_mbit_s=72))
    assert (first.interface, first.signal_dbm, first.speed_mbit_s) == ("wlan0", -61, 72)
    assert first.in_bytes_per_s is None
    second = shown(10, 2, link(10**9 + 5000))
    assert (second.in_bytes_per_s, second.out_bytes_per_s) == (1000, 0)
    assert (second.received_bytes, second.sent_bytes) == (10**9 + 5000, 10)
    assert (second.signal_dbm, second.speed_mbit_s) == (None, None)
    assert shown(15, 3, {**link(10**9 + 9000), "interface": "eth0"}).in_bytes_per_s is None
    assert shown(20, 4, {**link(10), "interface": "eth0"}).in_bytes_per_s is None, "counts anew"
    assert shown(25, 5, None) is None
    for number, garbage in enumerate(([], "eth0", {"interface": 7}, {"speed_mbit_s": 5}, 1)):
        assert shown(30 + number, 6 + number, garbage) is None
    odd = shown(60, 20, {"interface": "a\x1b[2Jb", "speed_mbit_s": -5, "received_bytes": "many"})
    assert (odd.speed_mbit_s, odd.in_bytes_per_s) == (None, None)
    assert "\x1b" not in odd.interface


def test_the_last_hour_is_kept_in_points_of_5_s_or_a_minute() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]))
    for sequence in range(1, 1000):
        watched.tell(
            stats(
                5 * sequence,
                "pi-1",
                sequence,
                stage(0, 10 * sequence),
                cpu_percent=float(sequence % 12),
            )
        )
    now_s = START_S + 5 * 999
    series = watched.state.device_series("pi-1", "cpu_percent")
    assert series is not None
    points = series.points(now_s)
    assert len(points) == 720
    assert points[-1] == (now_s, 999 % 12)
    assert all(value is not None for _, value in points)
    minutes = series.points(now_s, 60)
    assert len(minutes) == 60
    assert [value for _, value in minutes[:-1]] == pytest.approx([5.5] * 59)
    rates = watched.state.stage_series("net", 0, "requests_per_s")
    assert rates is not None
    assert rates.points(now_s)[-1][1] == pytest.approx(2)
    assert watched.state.stage_series("net", 7, "requests_per_s") is None
    assert watched.state.device_series("nobody", "cpu_percent") is None


def test_boards_and_deployments_beyond_the_limits_are_marked() -> None:
    watched = Watched().tell(*(availability(0, f"pi-{n}", b"online") for n in range(MAX_DEVICES)))
    assert watched.at(1).too_many == ()
    watched.tell(availability(2, "one-more", b"online"), stats(3, "another", 1))
    watched.tell(*(manifest(4, ["pi-1"], name=f"net-{n}") for n in range(MAX_DEPLOYMENTS + 1)))
    fleet = watched.at(5)
    assert fleet.too_many == ("boards", "deployments")
    assert (len(fleet.devices), len(fleet.deployments)) == (MAX_DEVICES, MAX_DEPLOYMENTS)
    assert fleet.messages.ignored == 3
    # Known boards are still followed.
    watched.tell(availability(6, "pi-7", b"offline"))
    assert watched.at(7).devices["pi-7"].state == "offline"


def test_a_pipeline_of_too_many_stages_is_cut_and_marked() -> None:
    watched = Watched().tell(manifest(0, *(["pi-1"] for _ in range(MAX_STAGES + 5))))
    fleet = watched.at(1)
    assert fleet.too_many == ("stages",)
    assert len(fleet.deployments["net"].stages) == MAX_STAGES


def test_a_clock_offset_excludes_the_time_on_the_network() -> None:
    watched = Watched()
    for sequence, late_s in ((1, 3.0), (2, 0.25), (3, 2.0)):
        now = 5.0 * sequence
        watched.tell(stats(now, "pi-1", sequence, time_s=START_S + now + 60 - late_s))
    assert watched.at(16).devices["pi-1"].clock_offset_s == pytest.approx(59.75)


def test_a_removed_board_that_returns_starts_again() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"]), availability(0, "pi-1", b"online"))
    watched.tell(stats(5, "pi-1", 1, stage(0, 10)))
    assert watched.board(6, 0).requests_total == 10
    watched.tell(availability(7, "pi-1", b""))
    assert watched.board(8, 0).state == "unknown"
    watched.tell(availability(9, "pi-1", b"online"), stats(10, "pi-1", 7, stage(0, 99)))
    assert watched.board(11, 0).requests_total == 99


def test_a_generation_may_have_more_or_fewer_stages() -> None:
    watched = Watched().tell(manifest(0, ["a"]), manifest(1, ["a"], ["b"], ["c"]))
    assert len(watched.at(2).deployments["net"].stages) == 3
    watched.tell(stats(5, "c", 1, stage(2, 10)), manifest(6, ["a"]))
    watched.tell(stats(10, "c", 2, stage(2, 60)))
    assert len(watched.at(11).deployments["net"].stages) == 1
