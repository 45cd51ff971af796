"""The web server over real sockets; tests of the page are in tests/end_to_end."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from fleet_messages import PREFIX
from recordings import MESSAGES, record

if TYPE_CHECKING:
    from collections.abc import Iterator

MONITOR = Path(sys.executable).parent / "mqtt-monitor"
SECRET = "correct horse battery"  # noqa: S105


@contextmanager
def served(file: Path, *words: str, **environ: str) -> Iterator[str]:
    """Serve a recording; yield its ``HOST:PORT``."""
    command = [MONITOR, "web", "--listen", "127.0.0.1:0", "--replay", file, *words]
    environment = {**os.environ, **environ}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        yield urlsplit(server.stdout.readline().strip()).netloc
    finally:
        server.terminate()
        assert server.wait(20) == 0
        server.stdout.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("web") / "fleet.jsonl"
    record(file, *MESSAGES)
    return file


@pytest.fixture(scope="module")
def address(recording: Path) -> Iterator[str]:
    with served(recording) as address:
        yield address


def ask(
    address: str, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    told = {name.lower(): value for name, value in answer.getheaders()}
    data = answer.read()
    connection.close()
    return answer.status, told, data


def test_every_response_has_security_headers(address: str) -> None:
    for path in ("/", "/monitor.js", "/api/snapshot", "/metrics", "/no-such-page"):
        _, headers, _ = ask(address, path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "aiohttp" not in headers["server"].lower()
    status, _, body = ask(address, "/no-such-page")
    assert (status, body) == (404, b"Not Found\n")


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(address: str) -> None:
    page = ask(address, "/")[2].decode()
    assert "http" not in page.replace("<!doctype html>", "")
    assert "<style" not in page
    assert page.count("<script") == 1
    assert " style=" not in page
    for path in ("/monitor.js", "/charts.js", "/dom.js"):
        script = ask(address, path)[2].decode()
        assert "innerHTML" not in script
        assert "insertAdjacentHTML" not in script


def test_a_snapshot_equals_once_json(address: str, recording: Path) -> None:
    status, headers, body = ask(address, "/api/snapshot")
    assert (status, headers["content-type"]) == (200, "application/json")
    printed = subprocess.run(
        [MONITOR, "replay", recording, "--json"], capture_output=True, check=True, timeout=60
    )
    assert json.loads(body) == json.loads(printed.stdout)


@pytest.mark.parametrize(
    "query", ["", "?deployment=nobody&stage=0", "?deployment=net&stage=99", "?stage=x"]
)
def test_an_unknown_stage_has_no_layers(address: str, query: str) -> None:
    status, _, body = ask(address, f"/api/layers{query}")
    assert (status, json.loads(body)) == (200, {"layers": [], "more": 0})


def events(address: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", "/api/stream")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    found = []
    while len(found) < count:
        kind = answer.readline().decode().removeprefix("event: ").strip()
        data = json.loads(answer.readline().decode().removeprefix("data: "))
        assert answer.readline() == b"\n"
        found.append((kind, data))
    connection.close()
    return found


def test_a_stream_starts_with_the_fleet_and_continues_with_changes(address: str) -> None:
    (first, whole), (second, change) = events(address, 2)
    assert (first, second) == ("fleet", "change")
    assert whole.pop("recorded")
    snapshot = json.loads(ask(address, "/api/snapshot")[2])
    for stage in (stage for item in snapshot["deployments"] for stage in item["stages"]):
        # The page requests the layers of the stage that it shows.
        for key in ("layers", "more_layers", "wrapped", "more_wrapped"):
            del stage[key]
    assert whole == snapshot
    assert change["devices"] == []
    assert change["at_s"] == whole["at_s"]


def test_history_is_the_last_hour(address: str) -> None:
    path = "/api/history?deployment=net&stage=0&figure=requests_per_s&step_s=5"
    found = json.loads(ask(address, path)[2])
    (series,) = found["series"]
    assert len(series) == 720
    assert [value for _, value in series if value is not None][-1] == 10
    board = json.loads(ask(address, "/api/history?device=pi-1&figure=cpu_percent")[2])
    assert board["series"][0][-1][1] == 50
    for nothing in ("device=pi-9&figure=cpu_percent", "device=pi-1&figure=x", "figure=x"):
        assert json.loads(ask(address, f"/api/history?{nothing}")[2])["series"] in ([[]], [])
    for wrong in ("stage=x", "step_s=nan", "step_s=x", "stage=-1&deployment=net"):
        assert ask(address, f"/api/history?{wrong}")[0] == 400


def test_the_web_server_has_metrics(address: str) -> None:
    status, headers, body = ask(address, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b"edge_partition_broker_up 1" in body


def test_a_foreign_host_name_is_refused(address: str) -> None:
    for path in ("/", "/api/snapshot", "/api/stream"):
        status, _, body = ask(address, path, Host="evil.example:8465")
        assert status == 421
        assert b"pi-1" not in body


def test_an_open_stream_does_not_keep_the_server_running(recording: Path) -> None:
    with served(recording) as address:
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", "/api/stream")
        connection.getresponse().readline()
        started = time.monotonic()
    assert time.monotonic() - started < 15
    connection.close()


def test_without_the_password_nothing_is_shown(recording: Path) -> None:
    with served(recording, MQTT_MONITOR_TOKEN=SECRET) as address:
        for path in ("/api/snapshot", "/api/stream", "/api/history?figure=x", "/api/layers",
                     "/metrics", "/monitor.js", "/no-such-page"):  # fmt: skip
            status, headers, body = ask(address, path)
            assert (status, body) == (401, b"This server needs a password.\n")
            assert headers["www-authenticate"].startswith("Bearer")
        status, headers, _ = ask(address, "/")
        assert (status, headers["location"]) == (303, "/login")
        assert b"password" in ask(address, "/login")[2]
        wrong = ask(address, "/metrics", Authorization=f"Bearer {SECRET}x")
        assert wrong[0] == 401
        assert ask(address, "/metrics", Authorization=f"Bearer {SECRET}")[0] == 200
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        status, headers, body = ask(address, "/login", "POST", "password=nonsense", **form)
        assert status == 401
        assert b"Wrong password." in body
        assert "set-cookie" not in headers
        given = f"password={SECRET.replace(' ', '+')}"
        status, headers, _ = ask(address, "/login", "POST", given, **form)
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert SECRET not in cookie
        assert ask(address, "/api/snapshot", Cookie=cookie.partition(";")[0])[0] == 200
    with served(recording, MQTT_MONITOR_TOKEN=SECRET) as address:
        assert ask(address, "/api/snapshot", Cookie=cookie.partition(";")[0])[0] == 200
    with served(recording, MQTT_MONITOR_TOKEN=SECRET + "!") as address:
        assert ask(address, "/api/snapshot", Cookie=cookie.partition(";")[0])[0] == 401


def test_only_some_of_many_wrong_passwords_are_checked(recording: Path) -> None:
    with served(recording, MQTT_MONITOR_TOKEN=SECRET) as address:
        statuses: list[int] = []

        def guess(number: int) -> None:
            header = f"Bearer guess number {number}"
            statuses.append(ask(address, "/metrics", Authorization=header)[0])

        threads = [threading.Thread(target=guess, args=(number,)) for number in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {401, 429}


def read_statuses(sockets: list[socket.socket]) -> list[int]:
    return [int(item.makefile("rb").readline().split()[1]) for item in sockets]


def wrong_logins(address: str, count: int, body: bytes) -> list[socket.socket]:
    """Start logins that have not sent their passwords yet."""
    host, port = address.split(":")
    sockets = [socket.create_connection((host, int(port)), 20) for _ in range(count)]
    for item in sockets:
        item.sendall(
            f"POST /login HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            "Expect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
    for item in sockets:
        assert item.recv(100).startswith(b"HTTP/1.1 100 ")
    return sockets


def test_slow_passwords_are_counted_when_they_arrive(
    recording: Path,
) -> None:
    body = b"password=nonsense"
    with served(recording, MQTT_MONITOR_TOKEN=SECRET) as address:
        sockets = wrong_logins(address, 60, body)
        for item in sockets:
            item.sendall(body)
        assert set(read_statuses(sockets)) == {401, 429}
        for item in sockets:
            item.close()


def test_form_and_bearer_passwords_share_one_limit(recording: Path) -> None:
    body = b"password=nonsense"
    with served(recording, MQTT_MONITOR_TOKEN=SECRET) as address:
        sockets = wrong_logins(address, 18, body)
        host, port = address.split(":")
        for item in sockets:
            item.sendall(body)
        for _ in range(18):
            item = socket.create_connection((host, int(port)), 20)
            sockets.append(item)
            item.sendall(
                f"GET /metrics HTTP/1.1\r\nHost: {address}\r\n"
                "Authorization: Bearer nonsense\r\nConnection: close\r\n\r\n".encode()
            )
        assert set(read_statuses(sockets)) == {401, 429}
        for item in sockets:
            item.close()


def test_another_address_without_a_password_is_one_line(recording: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "TOKEN" not in name}
    result = subprocess.run(
        [MONITOR, "web", "--listen", "0.0.0.0:0", "--replay", recording],
        capture_output=True, text=True, check=False, timeout=60, env=environment,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    assert "needs a password" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line(recording: Path, address: str) -> None:
    result = subprocess.run(
        [MONITOR, "web", "--listen", address, "--replay", recording],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode == 1
    assert f"Can't listen on {address}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_no_recording_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / PREFIX.replace("/", "-")
    file.write_text("garbage")
    result = subprocess.run(
        [MONITOR, "web", "--replay", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 1
    assert "is not a recording" in result.stderr
