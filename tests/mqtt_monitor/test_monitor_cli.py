"""The command line; tests with boards are in tests/end_to_end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fleet_messages import PREFIX
from recordings import MESSAGES, record

from mqtt_monitor.cli import COMMANDS

BIN = Path(sys.executable).parent
NOBODY = "mqtt://127.0.0.1:1"


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "mqtt-monitor", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help(command: list[str]) -> None:
    result = run(*command, "-h")
    assert result.returncode == 0
    assert "Usage: mqtt-monitor" in result.stdout


def test_wrong_usage_is_status_2() -> None:
    for words in (["nonsense"], ["--wait", "soon"], ["record"], ["replay", "f", "--speed", "0"]):
        assert run(*words).returncode == 2, words
    misplaced = run("--broker", NOBODY, "record", "file")
    assert misplaced.returncode == 2
    assert "mqtt-monitor record --OPTION" in misplaced.stderr


@pytest.mark.parametrize(
    "words", [["--once"], ["record", "FILE"], ["metrics", "--listen", "127.0.0.1:0"]]
)
def test_no_broker_is_one_line_and_status_1(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    words = [str(file) if word == "FILE" else word for word in words]
    result = run(*words, EDGE_PARTITION_BROKER=NOBODY)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"mqtt-monitor: No broker at {NOBODY}: ")
    assert result.stderr.count("\n") == 1
    assert not file.exists()
    assert "Traceback" in run(*words, "--debug", EDGE_PARTITION_BROKER=NOBODY).stderr


def test_a_failed_start_leaves_no_recording(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    nothing = tmp_path / "ca.pem"
    words = ["record", file, "--broker", "mqtts://127.0.0.1:1"]
    result = run(*words, EDGE_PARTITION_CA_FILE=str(nothing))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert f"The CA file {nothing} can't be used" in result.stderr
    assert not file.exists()
    assert "prefix" in run("record", file, "--prefix", "#", "--broker", NOBODY).stderr
    assert not file.exists()


def test_a_recording_is_shown_as_tables_and_as_json(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    record(file, *MESSAGES)
    tables = run("replay", file)
    assert tables.returncode == 0, tables.stderr
    assert "pi-1" in tables.stdout
    assert "net[0]" in tables.stdout
    result = run("replay", file, "--once", "--json")
    assert result.returncode == 0
    shown = json.loads(result.stdout)
    assert [(item["name"], item["state"]) for item in shown["devices"]] == [("pi-1", "online")]
    (deployment,) = shown["deployments"]
    assert deployment["deployment"] == "net"
    assert [item["devices"] for item in deployment["stages"]] == [["pi-1"]]
    assert result.stderr == ""


def test_markup_in_names_is_shown_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "fleet.jsonl"
    message = MESSAGES[0]
    renamed = message.payload.replace(b'"Net"', b'"[bold red]x[/] <b>"')
    record(file, *MESSAGES[1:], type(message)(message.time_s, message.topic, renamed))
    assert "[bold red]x[/] <b>" in run("replay", file).stdout


def test_replaying_a_missing_file_is_one_line(tmp_path: Path) -> None:
    result = run("replay", tmp_path / PREFIX.replace("/", "-"))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
