"""The live feed at a real broker, with a read-only account."""

from __future__ import annotations

import itertools
import json
import threading
import time
from typing import TYPE_CHECKING

import pytest
from any_topic import any_topic
from brokers import free_port, mosquitto_with_accounts, wait_until
from fleet_clients import agent, publish
from fleet_messages import availability, manifest, profile, stage, stats

from edge_core.errors import BrokerUnreachableError
from mqtt_monitor.feeds.live import LiveFeed

if TYPE_CHECKING:
    from pathlib import Path


def test_a_feed_shows_retained_and_new_messages(tmp_path: Path) -> None:
    with mosquitto_with_accounts(tmp_path, free_port()) as url, agent(url) as publisher:
        boards = [f"pi-{number:03}" for number in range(300)]
        for name in boards:
            publish(publisher, availability(0, name, b"online"), profile(0, name))
        publish(publisher, manifest(0, ["pi-001"], ["pi-002"]))
        with LiveFeed(url) as feed:
            feed.wait_until_known(0)
            fleet = feed.snapshot()
            assert list(fleet.devices) == boards
            assert all(device.profile for device in fleet.devices.values())
            assert len(fleet.deployments["net"].stages) == 2
            seen = feed.wait_for_change(0, 1)
            assert feed.wait_for_change(seen, 0.05) == seen
            publish(publisher, stats(time.time(), "pi-001", 1, stage(0, 5)))
            wait_until(lambda: feed.snapshot().devices["pi-001"].load, "statistics")
            assert feed.wait_for_change(seen, 0) > seen


def test_a_busy_fleet_is_known_as_fast_as_a_quiet_one(tmp_path: Path) -> None:
    ended = threading.Event()
    with mosquitto_with_accounts(tmp_path, free_port()) as url, agent(url) as publisher:
        publish(publisher, availability(0, "pi-1", b"online"))

        def be_busy() -> None:
            for sequence in itertools.count(1):
                publish(publisher, stats(time.time(), "pi-1", sequence, stage(0, sequence)))
                if ended.wait(0.02):
                    return

        busy = threading.Thread(target=be_busy)
        busy.start()
        try:
            with LiveFeed(url) as feed:
                feed.wait_until_known(stats_within_s=20)
                fleet = feed.snapshot()
        finally:
            ended.set()
            busy.join()
    assert fleet.devices["pi-1"].state == "online"
    assert fleet.devices["pi-1"].load is not None


def test_the_monitor_publishes_nothing(tmp_path: Path) -> None:
    with mosquitto_with_accounts(tmp_path, free_port()) as url, agent(url) as watcher:
        seen: list[str] = []
        watcher.subscribe(any_topic("#"), lambda message: seen.append(message.topic), timeout_s=10)
        with LiveFeed(url) as feed:
            feed.watch_requests(wanted=True)
            feed.wait_until_known(0.2)
        publish(watcher, availability(0, "marker", b"online"))
        wait_until(lambda: seen, "the marker")
        assert seen == ["edge/v1/device/marker/availability"]


def test_results_are_sampled_while_requests_are_watched(tmp_path: Path) -> None:
    trace = json.dumps([{"stage": 0, "device": "pi-1", "queue_ms": 1.0, "invoke_ms": 2.0}])
    with (
        mosquitto_with_accounts(tmp_path, free_port()) as url,
        agent(url) as publisher,
        LiveFeed(url) as feed,
    ):

        def send(number: int) -> None:
            publisher.publish(
                any_topic("edge/v1/client/me/result"),
                bytes(1000),
                correlation_data=number.to_bytes(8, "big"),
                user={"trace": trace},
            )

        sent = 0

        def has_requests() -> bool:
            nonlocal sent
            sent += 1
            send(sent)
            return bool(feed.snapshot().requests)

        for _ in range(20):
            assert not has_requests()
        feed.watch_requests(wanted=True)
        wait_until(has_requests, "a sampled result")
        for _ in range(200):
            has_requests()
        publish(publisher, availability(0, "marker", b"online"))
        wait_until(lambda: "marker" in feed.snapshot().devices, "the marker")
        # The monitor samples a few of many results.
        assert 0 < len(feed.snapshot().requests) < sent / 4


def test_a_lost_connection_and_a_reconnection_are_events(tmp_path: Path) -> None:
    port = free_port()
    told: list[bool] = []
    with mosquitto_with_accounts(tmp_path, port) as url:
        feed = LiveFeed(url, on_broker=lambda connected, _: told.append(connected))
        feed.open()
        with agent(url) as publisher:
            publish(publisher, availability(0, "pi-1", b"online"))
        wait_until(lambda: feed.snapshot().devices, "the board")
    try:
        wait_until(lambda: not feed.snapshot().broker.connected, "the broker to be gone")
        assert feed.snapshot().broker.reason == "it closed the connection"
        assert feed.snapshot().devices["pi-1"].state == "online"
        with mosquitto_with_accounts(tmp_path, port) as url, agent(url) as publisher:
            wait_until(lambda: feed.snapshot().broker.connected, "the broker to be back")
            publish(publisher, availability(0, "pi-1", b"offline"))
            wait_until(
                lambda: feed.snapshot().devices["pi-1"].state == "offline", "the subscription"
            )
    finally:
        feed.close()
    assert told[:3] == [True, False, True]
    assert [str(event.kind) for event in feed.snapshot().events][:3] == [
        "online",
        "broker-away",
        "broker-back",
    ]


def test_a_deployment_undeployed_while_disconnected_disappears(tmp_path: Path) -> None:
    port = free_port()
    with mosquitto_with_accounts(tmp_path, port) as url:
        feed = LiveFeed(url)
        feed.open()
        with agent(url) as publisher:
            for name in ("kept", "gone"):
                publish(publisher, manifest(0, ["pi-1"], name=name, generation=name))
                publish(publisher, availability(0, f"pi-{name}", b"online"))
        wait_until(lambda: len(feed.snapshot().devices) == 2, "both boards")
    try:
        wait_until(lambda: not feed.snapshot().broker.connected, "the broker to be gone")
        # The broker keeps nothing on disk: messages not published again are like cleared ones.
        with mosquitto_with_accounts(tmp_path, port) as url, agent(url) as publisher:
            publish(publisher, manifest(0, ["pi-1"], name="kept", generation="kept"))
            publish(publisher, availability(0, "pi-kept", b"online"))
            wait_until(lambda: feed.snapshot().broker.connected, "the broker to be back")
            assert set(feed.snapshot().deployments) == {"kept", "gone"}
            wait_until(lambda: set(feed.snapshot().deployments) == {"kept"}, "the end of one")
            assert set(feed.snapshot().devices) == {"pi-kept"}
            assert feed.snapshot().events[-1].text == (
                "Deployment gone was undeployed while the monitor was disconnected."
            )
    finally:
        feed.close()


def test_no_broker_is_an_error() -> None:
    feed = LiveFeed(f"mqtt://127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnreachableError):
        feed.open()
