"""A broker that wants TLS, a client's certificate and a password, reached by options alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from commands import BIN
from desk import BOARDS, EXAMPLES, PATIENCE_S, wait_until

import edge_partition as ep
from broker_config.serve.mosquitto import find_mosquitto
from edge_core.mqtt.broker_address import BrokerAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_partition.bundles.bundle import Bundle

IMAGE = min((EXAMPLES / "digits" / "images").iterdir())
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class SecuredBroker:
    """A mosquitto with TLS, certificates of clients, and an account.

    Attributes:
        url: The broker's URL.
        folder: Holds ``ca.pem``, ``client.pem``, ``client.key`` and ``password``.
    """

    url: str
    folder: Path

    @property
    def options(self) -> list[str]:
        """The options that reach the broker."""
        return [
            *("--broker", self.url, "--username", "me"),
            *("--password-file", str(self.folder / "password")),
            *("--ca-file", str(self.folder / "ca.pem")),
            *("--certificate-file", str(self.folder / "client.pem")),
            *("--key-file", str(self.folder / "client.key")),
        ]

    def without(self, flag: str) -> list[str]:
        """The options without one of them."""
        at = self.options.index(flag)
        return self.options[:at] + self.options[at + 2 :]


def run(command: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a program without any variable of this project."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("EDGE_PARTITION")
    }
    return subprocess.run(
        [BIN / command, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )


def make_certificates(folder: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")

    def call(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    call("req", "-x509", *_CURVE, "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj",
         "/CN=ca")  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    for name in ("hub", "client"):
        subject = ("-subj", f"/CN={name}")
        call("req", "-new", *_CURVE, "-keyout", f"{name}.key", "-out", f"{name}.csr", *subject)
        call("x509", "-req", "-in", f"{name}.csr", *signed, "-days", "2", "-out", f"{name}.pem")


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredBroker]:
    binary, accounts = find_mosquitto(), shutil.which("mosquitto_passwd")
    if binary is None or accounts is None:
        pytest.skip("mosquitto is not installed")
    make_certificates(tmp_path)
    (tmp_path / "password").write_text("hush\n")
    subprocess.run(
        [accounts, "-b", "-c", tmp_path / "accounts", "me", "hush"], check=True, capture_output=True
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [
        *(["user root"] if os.geteuid() == 0 else []),
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"password_file {tmp_path}/accounts",
        f"cafile {tmp_path}/ca.pem",
        f"certfile {tmp_path}/hub.pem",
        f"keyfile {tmp_path}/hub.key",
        "require_certificate true",
        "",
    ]
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text("\n".join(lines))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([binary, "-c", configuration], stdout=log, stderr=log)

    def listens() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return True
        return False

    try:
        wait_until(listens, "mosquitto")
        yield SecuredBroker(f"mqtts://127.0.0.1:{port}", tmp_path)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextlib.contextmanager
def agents(broker: SecuredBroker) -> Iterator[None]:
    """Start the three boards with the options of the commands."""
    processes = []
    try:
        for name in BOARDS:
            words = ["--name", name, "--state-dir", str(broker.folder / name), "--threads", "1"]
            with (broker.folder / f"{name}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        [BIN / "device-agent", *broker.options, *words], stdout=log, stderr=log
                    )
                )
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(PATIENCE_S)


def boards_online(broker: SecuredBroker) -> bool:
    status = run("edge-partition", "status", *broker.options, "--json")
    assert status.returncode == 0, status.stderr
    devices = json.loads(status.stdout)["devices"]
    return [device["state"] for device in devices] == ["online"] * len(BOARDS)


def test_every_program_reaches_a_secured_broker_by_options_alone(
    secured: SecuredBroker, digits_bundle: Bundle
) -> None:
    with agents(secured):
        wait_until(lambda: boards_online(secured), "three boards online")
        deployed = run("edge-partition", "deploy", digits_bundle.path, *secured.options)
        assert deployed.returncode == 0, deployed.stderr
        assert deployed.stdout.startswith("digits is live")

        shown = run("edge-partition", "status", *secured.options)
        assert shown.stdout.startswith("3 of 3 boards online; live: digits.")

        answers = run("edge-partition", "run", "digits", IMAGE, *secured.options, "--json")
        assert answers.returncode == 0, answers.stderr
        assert json.loads(answers.stdout)["requests"] == 1

        fleet = run("mqtt-monitor", "--once", "--wait", "0.5", "--json", *secured.options)
        assert fleet.returncode == 0, fleet.stderr
        assert len(json.loads(fleet.stdout)["devices"]) == len(BOARDS)

        address = BrokerAddress.parse(
            secured.url,
            username="me",
            password_file=str(secured.folder / "password"),
            ca_file=str(secured.folder / "ca.pem"),
            certificate_file=str(secured.folder / "client.pem"),
            key_file=str(secured.folder / "client.key"),
            environ={},
        )
        assert all(board.online for board in ep.read_status(address).boards)
        with ep.Pipeline("digits", address) as pipeline:
            assert pipeline.infer(IMAGE).shape == (1, 10)

        ended = run("edge-partition", "undeploy", "digits", *secured.options)
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("flag", "status", "problem"),
    [
        ("--username", 2, "--password-file needs an account"),
        ("--password-file", 1, "Not authorized"),
        ("--ca-file", 1, "certificate is not trusted"),
        ("--certificate-file", 2, "--key-file needs a certificate"),
        ("--key-file", 1, "client.pem with the key in the same file"),
    ],
)
def test_a_missing_option_is_one_line(
    secured: SecuredBroker, flag: str, status: int, problem: str
) -> None:
    for command in (["edge-partition", "status"], ["mqtt-monitor", "--once"]):
        ended = run(*command, *secured.without(flag))
        assert (ended.returncode, ended.stdout) == (status, ""), ended.stderr
        assert ended.stderr.count("\n") == 1
        assert problem in ended.stderr


def test_a_password_file_that_is_missing_is_named(secured: SecuredBroker) -> None:
    words = [*secured.without("--password-file"), "--password-file", secured.folder / "nothing"]
    ended = run("edge-partition", "status", *words)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert str(secured.folder / "nothing") in ended.stderr
