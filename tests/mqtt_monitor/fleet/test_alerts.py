from __future__ import annotations

from typing import Any

import pytest
from fleet_messages import START_S, Watched, arrival, availability, manifest, profile, stage, stats

from mqtt_monitor.fleet.alerts import find_alerts

MIB = 1024 * 1024


def alerts(watched: Watched, time_s: float) -> dict[str, str]:
    return {alert.kind: alert.text for alert in find_alerts(watched.at(time_s))}


def steady(**fields: Any) -> Watched:
    """A board at work for a minute and a half: one stage, 10 requests/s, as planned."""
    watched = Watched().tell(
        manifest(0, ["pi-1"]),
        availability(0, "pi-1", b"online"),
        profile(0, "pi-1", ram_mib=100, total_memory_bytes=1000 * MIB),
    )
    for sequence in range(1, 19):
        own = {key: value(sequence) if callable(value) else value for key, value in fields.items()}
        served = stage(0, 50 * sequence, mean_ms=own.pop("mean_ms", 10.0))
        load: dict[str, Any] = {"rss_bytes": 50 * MIB, "free_memory_bytes": 500 * MIB, **own}
        watched.tell(stats(5.0 * sequence, "pi-1", sequence, served, **load))
    return watched


def test_a_fleet_within_its_plan_has_no_alerts() -> None:
    assert alerts(steady(), 91) == {}


def test_memory_within_a_tenth_of_its_limit() -> None:
    assert alerts(steady(rss_bytes=89 * MIB, mean_ms=10.0), 91).keys() == {"memory-plan"}
    assert alerts(steady(rss_bytes=91 * MIB), 91)["memory"] == (
        "The agent on board pi-1 uses 91 MiB of memory; its limit is 100 MiB."
    )
    assert alerts(steady(free_memory_bytes=99 * MIB), 91)["memory"] == (
        "Board pi-1 has only 99 MiB of memory free, of 1,000 MiB."
    )


def test_a_stage_slower_than_planned_by_more_than_15_percent() -> None:
    assert alerts(steady(mean_ms=11.4), 91) == {}
    assert alerts(steady(mean_ms=11.6), 91) == {
        "slow": "net stage 0 on pi-1 takes 11.6 ms per inference; the plan says 10.0 ms (+16%)."
    }


def test_one_slow_period_is_no_alert() -> None:
    once = Watched().tell(manifest(0, ["pi-1"]), stats(5, "pi-1", 1, stage(0, 0)))
    for sequence in range(2, 14):
        done = 50 * sequence
        total_ms = 10.0 * done + (30.0 if sequence == 13 else 0.0) * 5
        once.tell(stats(5.0 * sequence, "pi-1", sequence, stage(0, done, invoke_total_ms=total_ms)))
    assert once.board(66, 0).invoke_ms == pytest.approx(13)
    assert alerts(once, 66) == {}


def test_a_growing_queue_is_an_alert_and_a_long_one_is_not() -> None:
    assert alerts(steady(queue_length=20), 91) == {}
    assert alerts(steady(queue_length=lambda sequence: sequence), 91)["queue"] == (
        "The queue of board pi-1 grows: 18 requests wait now, 13 waited half a minute ago."
    )


def test_a_throttled_processor_is_an_alert() -> None:
    assert alerts(steady(throttled=True, temperature_c=84.6), 91)["throttled"] == (
        "Board pi-1 throttles its processor at 85 °C; check its cooling and its power supply."
    )
    assert alerts(steady(throttled=False, temperature_c=84.6), 91) == {}


def test_a_wrong_clock_is_an_alert() -> None:
    ahead = steady(time_s=lambda sequence: START_S + 5.0 * sequence + 3600 * 3)
    assert (
        alerts(ahead, 91)["clock"] == "The clock of board pi-1 is 3 h ahead of the monitor's clock."
    )
    behind = steady(time_s=lambda sequence: START_S + 5.0 * sequence - 4)
    assert (
        alerts(behind, 91)["clock"]
        == "The clock of board pi-1 is 4.0 s behind the monitor's clock."
    )


def test_an_offline_board_is_critical_only_without_a_replica() -> None:
    watched = Watched().tell(manifest(0, ["pi-1", "pi-2"]))
    for name in ("pi-1", "pi-2", "pi-3"):
        watched.tell(availability(0, name, b"online"))
    watched.tell(availability(5, "pi-1", b"offline"), availability(5, "pi-3", b"offline"))
    found = [(alert.severity, alert.text) for alert in find_alerts(watched.at(6))]
    assert found == [("warning", "Board pi-1 is offline."), ("warning", "Board pi-3 is offline.")]
    watched.tell(availability(7, "pi-2", b"offline"))
    first = find_alerts(watched.at(8))[0]
    assert (first.severity, first.text) == (
        "critical",
        "Board pi-1 is offline; deployment net needs this board.",
    )


def test_an_online_board_without_statistics_is_silent() -> None:
    assert alerts(steady(), 190)["silent"] == (
        "Board pi-1 is online but has sent no statistics for 100 s."
    )
    never = Watched().tell(availability(0, "pi-1", b"online", retained=True))
    assert alerts(never, 29) == {}
    assert alerts(never, 31).keys() == {"silent"}


def test_another_generation_is_an_alert_after_a_grace_period() -> None:
    watched = steady()
    watched.tell(manifest(91, ["pi-1"], generation="g2", retained=False))
    assert alerts(watched, 92) == {}
    watched.tell(stats(110, "pi-1", 22, stage(0, 1000)))
    assert alerts(watched, 111)["generation"] == (
        "Board pi-1 serves generation g1 of net stage 0; the live generation is g2."
    )
    watched.tell(stats(115, "pi-1", 23))
    assert alerts(watched, 116)["not-serving"] == (
        "Board pi-1 is online but does not serve net stage 0."
    )


def test_a_planned_board_that_never_connected_is_an_alert() -> None:
    assert alerts(Watched().tell(manifest(0, ["pi-9"])), 1)["missing"] == (
        "Board pi-9 should serve net stage 0 but has never connected."
    )


def test_lost_and_repeated_messages() -> None:
    watched = Watched().tell(manifest(0, ["pi-1"], ["pi-2"]))
    rest = [(100, 100)] * 4
    for sequence, (sent, arrived) in enumerate([*rest, *[(900, 893)] * 4], start=1):
        watched.tell(stats(5.0 * sequence, "pi-1", sequence, stage(0, sent)))
        watched.tell(stats(5.0 * sequence + 2, "pi-2", sequence, stage(1, arrived)))
    assert alerts(watched, 43) == {
        "lost": "7 messages of net between stages 0 and 1 were lost since the monitor started."
    }


def test_without_a_connection_there_is_no_other_alert() -> None:
    watched = steady(rss_bytes=99 * MIB)
    watched.state.note_broker(START_S + 91, connected=False, reason="Keep alive timeout")
    assert alerts(watched, 92) == {
        "broker-away": "Lost the connection to the broker at mqtt://hub:1883: Keep alive timeout. "
        "Reconnecting. All values are from the moment of the disconnection."
    }


def test_an_unreadable_manifest_is_an_alert() -> None:
    watched = steady().tell(arrival(91, "deployment/net/manifest", {"schema": 7}))
    assert alerts(watched, 92)["manifest"].startswith(
        "The newest manifest of deployment net can't be read: "
    )
