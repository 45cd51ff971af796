from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from fleet_messages import PREFIX, START_S, Watched
from hypothesis import given
from hypothesis import strategies as st
from recordings import MESSAGES, record

from mqtt_monitor.feeds.recording import RecordingError, ReplayFeed, playing
from mqtt_monitor.fleet.arrival import Arrival

if TYPE_CHECKING:
    from pathlib import Path


def test_a_replay_shows_the_recorded_fleet(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    record(file, *MESSAGES)
    feed = ReplayFeed(file)
    feed.play()
    shown, seen = feed.snapshot(), Watched().tell(*MESSAGES).at(12)
    assert shown.at_s == seen.at_s
    assert shown.devices == seen.devices
    assert shown.deployments == seen.deployments
    assert shown.requests == seen.requests
    assert shown.messages == seen.messages
    assert shown.deployments["net"].requests_per_s == 10
    assert feed.device_history("pi-1", "cpu_percent", 60)[-1][1] == 50
    assert feed.stage_history("net", 0, "requests_per_s")


def test_a_models_outputs_are_not_recorded(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    result = Arrival(START_S, f"{PREFIX}/client/me/result", b"SECRET" * 100, user={"trace": "[]"})
    record(file, result)
    assert b"SECRET" not in file.read_bytes()


def test_a_recording_ends_at_its_size(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    recorder = record(file, *MESSAGES * 100, max_bytes=5000)
    assert recorder.is_full
    assert 4000 < file.stat().st_size <= 5000
    ReplayFeed(file).play()


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    file.write_text("mine")
    with pytest.raises(RecordingError, match="exists already"):
        record(file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "text", ["", "garbage\n", '{"recording": 2}\n', '{"recording": 1, "prefix": "#"}\n', "[1]\n"]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text(text)
    with pytest.raises(RecordingError, match=r"other.jsonl: is not a recording of format 1"):
        ReplayFeed(file)
    with pytest.raises(RecordingError, match="can't be read: No such file"):
        ReplayFeed(tmp_path / "nothing")


def test_an_incomplete_last_line_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    record(file, *MESSAGES)
    whole = file.read_bytes()
    for cut in range(1, 200, 7):
        file.write_bytes(whole[:-cut])
        feed = ReplayFeed(file)
        feed.play()
        assert feed.snapshot().devices["pi-1"].state == "online"


def test_a_replay_keeps_the_given_speed(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    record(file, *MESSAGES)
    # The header has the time of the recording; older messages do not wait for that time.
    lines = file.read_text().splitlines()
    header = json.loads(lines[0]) | {"time_s": START_S}
    file.write_text("\n".join([json.dumps(header), *lines[1:]]))
    feed = ReplayFeed(file, speed=40)
    started = time.monotonic()
    feed.play()
    assert time.monotonic() - started >= 12 / 40


def test_texts_that_cannot_be_encoded_have_replacement_characters(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    header = {"recording": 1, "prefix": PREFIX, "broker": "mqtt://\udcff", "time_s": START_S}
    lost = {"time_s": START_S + 1, "connected": False, "reason": "gone\udcff"}
    file.write_text(f"{json.dumps(header)}\n{json.dumps(lost)}\n")
    feed = ReplayFeed(file)
    feed.play()
    broker = feed.snapshot().broker
    assert (broker.url, broker.reason) == ("mqtt://\ufffd", "gone\ufffd")
    (event,) = feed.snapshot().events
    assert (
        event.text.encode().decode()
        == "Lost the connection to the broker: gone\ufffd. Reconnecting."
    )


def test_a_recording_removed_during_the_replay_is_an_error_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    record(file, *MESSAGES)
    feed = ReplayFeed(file)
    with playing(feed):
        feed.wait_for_change(0, 10)
    file.unlink()
    with pytest.raises(RecordingError, match="can't be read: No such file"), playing(feed):
        pass


@given(st.lists(st.text() | st.binary().map(str) | st.builds(json.dumps, st.dictionaries(
    st.sampled_from(["time_s", "topic", "text", "base64", "user", "correlation", "connected"]),
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just({"a": 1}),
))))  # fmt: skip
def test_damaged_lines_break_nothing(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    file = tmp_path_factory.mktemp("damaged") / "fleet.jsonl"
    record(file, *MESSAGES)
    with file.open("a", encoding="utf-8", errors="replace") as stream:
        stream.write("\n".join(lines))
    feed = ReplayFeed(file)
    feed.play()
    assert "pi-1" in feed.snapshot().devices
