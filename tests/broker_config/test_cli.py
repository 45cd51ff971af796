from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from broker_config.cli import _notes
from broker_config.serve.mosquitto import MosquittoBroker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "broker_config.cli"]

both_kinds = pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
pytestmark = pytest.mark.usefixtures("mosquitto_installed", "embedded_installed")


@contextmanager
def serving(*options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "serve", "--listen", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@both_kinds
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_serve_runs_until_a_signal_and_ends_its_broker(kind: str, ending: signal.Signals) -> None:
    with serving("--broker-kind", kind, "--json") as process:
        facts = json.loads(first_line(process))
        assert facts["kind"] == kind
        assert set(facts) == {"kind", "version", "url", "pid"}
        broker = psutil.Process(facts["pid"])
        assert broker.is_running()
        process.send_signal(ending)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert rest == ""
        assert not broker.is_running()


def test_serve_listens_on_an_ipv6_address() -> None:
    with serving("--listen", "[::1]:0") as process:
        line = first_line(process)
        process.terminate()
        process.communicate(timeout=30)
    assert " listens on mqtt://[::1]:" in line
    assert "(this machine only)" in line


def test_serve_prints_the_broker_and_its_address_in_one_line() -> None:
    with serving() as process:
        line = first_line(process)
        process.terminate()
        rest, errors = process.communicate(timeout=30)
    assert line.startswith("mosquitto ")
    assert " listens on mqtt://127.0.0.1:" in line
    assert "(this machine only); Ctrl-C stops the broker" in line
    assert rest == errors == ""


def test_serve_states_the_limit_of_the_embedded_broker() -> None:
    with serving("--broker-kind", "embedded") as process:
        assert first_line(process).startswith("embedded ")
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert errors == (
        "the embedded broker (rumqttd) accepts connections from this machine only; "
        "install mosquitto to connect boards\n"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", "192.0.2.1"])  # noqa: S104
def test_a_host_other_than_loopback_gives_a_warning(host: str) -> None:
    # A test of the function only, because a test must not open a broker to the network.
    [warning] = _notes("mosquitto", host)
    assert f"everyone who can reach {host} can use the broker" in warning


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "::1", "localhost"])
def test_a_loopback_host_gives_no_warning(host: str) -> None:
    assert _notes("mosquitto", host) == []


def test_serve_ends_with_an_error_when_its_broker_dies() -> None:
    with serving("--json") as process:
        psutil.Process(json.loads(first_line(process))["pid"]).kill()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "ended by itself" in errors


@both_kinds
def test_a_port_in_use_is_an_error_of_one_line_and_status_1(kind: str) -> None:
    with MosquittoBroker(port=0) as other:
        done = run("serve", "--broker-kind", kind, "--listen", f"127.0.0.1:{other.port}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"port {other.port} on 127.0.0.1 is in use" in done.stderr


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run("serve", "--listen", "192.0.2.1:1883", "--debug").stderr
    assert "Traceback" not in run("serve", "--listen", "192.0.2.1:1883").stderr


def test_the_embedded_broker_refuses_a_state_dir(tmp_path: Path) -> None:
    done = run("serve", "--broker-kind", "embedded", "--state-dir", str(tmp_path), "--listen", "0")
    assert done.returncode == 1
    assert "stores nothing on disk" in done.stderr


def test_mosquitto_keeps_its_state_in_the_state_dir(tmp_path: Path) -> None:
    with serving("--state-dir", str(tmp_path / "state")) as process:
        first_line(process)
        process.terminate()
        process.communicate(timeout=30)
    assert (tmp_path / "state" / "mosquitto.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["serve", "--listen", "127.0.0.1:65536"],
        ["serve", "--listen", "127.0.0.1:x"],
        ["serve", "--listen", "::1:1883"],
        ["serve", "--fast"],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("broker-config")
    assert done.stderr.endswith(" -h.\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["serv"], "serve"), (["serve", "--listn", "0"], "--listen"), (["--vers"], "--version")],
)
def test_a_mistyped_word_gets_a_suggestion(arguments: list[str], meant: str) -> None:
    assert f"did you mean {meant}?" in run(*arguments).stderr


@pytest.mark.parametrize("arguments", [["-h"], ["serve", "-h"]])
def test_help_ends_with_status_0(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: broker-config")
