from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from agent_host import start_agent, wait_for

from broker_config.serve.mosquitto import MosquittoBroker
from device_agent.config import ConfigError, make_config
from edge_core.contract.topics import OFFLINE, ONLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_host import AgentProcess, Host

    Start = Callable[..., AgentProcess]

_IDLE_RSS_LIMIT_BYTES = 60e6


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "device_agent", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_stopped_agent_publishes_offline_and_ends_with_0(
    host: Host, name: str, start: Start
) -> None:
    agent = start(name)
    assert agent.stop() == 0
    host.wait_for_availability(name, OFFLINE)
    assert host.retained(host.topics.availability(name)) == OFFLINE
    assert "Traceback" not in agent.text()


def test_the_will_of_a_killed_agent_says_offline(host: Host, name: str, start: Start) -> None:
    start(name).kill()
    host.wait_for_availability(name, OFFLINE)


def test_the_profile_has_hardware_runtime_and_speed(host: Host, name: str, start: Start) -> None:
    import json  # noqa: PLC0415

    start(name, "--ram-mib", "300")
    profile = wait_for(
        lambda: [
            found
            for found in [json.loads(host.retained(host.topics.profile(name)) or b"{}")]
            if "matmul_gmac_s" in found
        ]
    )[0]
    assert profile["runtime"].startswith(("ai-edge-litert ", "tflite-runtime "))
    assert profile["matmul_gmac_s"] > 0
    assert profile["ram_mib"] == 300
    assert profile["cores"] >= 1
    assert profile["total_memory_bytes"] > profile["free_memory_bytes"] > 0


@pytest.mark.alone
def test_an_idle_agent_is_small_and_has_no_tensorflow(host: Host, name: str, start: Start) -> None:
    agent = start(name)
    wait_for(lambda: b"matmul_gmac_s" in (host.retained(host.topics.profile(name)) or b""))
    assert host.states(name) == {}
    process = psutil.Process(agent.process.pid)
    assert process.memory_info().rss <= _IDLE_RSS_LIMIT_BYTES
    mapped = Path(f"/proc/{process.pid}/maps").read_text()
    # The runtime is mapped, so a mapped TensorFlow would be found.
    assert "tflite" in mapped.lower() or "litert" in mapped.lower()
    assert "/tensorflow/" not in mapped
    assert "/keras/" not in mapped


def test_no_module_of_the_agent_imports_tensorflow_or_keras() -> None:
    script = (
        "import pkgutil, importlib, sys, device_agent\n"
        "for m in pkgutil.iter_modules(device_agent.__path__):\n"
        "    importlib.import_module('device_agent.' + m.name)\n"
        "import edge_core.runtime.stage_interpreter as i; i.runtime_name()\n"
        "print('\\n'.join(sys.modules))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "device_agent.agent" in found
    assert "numpy" in found
    roots = {module.partition(".")[0] for module in found}
    assert not roots & {"tensorflow", "keras", "edge_partition", "typer", "rich", "flatbuffers"}


def test_an_agent_connects_before_it_imports_numpy_or_a_runtime() -> None:
    script = (
        "import sys, device_agent.agent; print('\\n'.join(sys.modules))\n"
        "import device_agent.commands; print('then:', 'numpy' in sys.modules)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "paho.mqtt.client" in found
    assert not set(found) & {"numpy", "ai_edge_litert", "tflite_runtime"}
    assert found[-1] == "then: True"


def test_a_name_in_use_is_refused(
    broker: MosquittoBroker, name: str, start: Start, tmp_path: Path
) -> None:
    first = start(name)
    second = start_agent(broker.url, name, tmp_path / "other")
    assert second.process.wait(20) == 1
    assert "already in use" in second.text()
    assert second.text().count("\n") == 1
    assert first.process.poll() is None


def test_a_state_directory_in_use_is_refused(
    broker: MosquittoBroker, name: str, start: Start, tmp_path: Path
) -> None:
    start(name)
    second = start_agent(broker.url, f"{name}-2", tmp_path / name)
    assert second.process.wait(20) == 1
    assert "another agent uses it" in second.text()


def test_an_agent_ends_if_another_agent_took_its_name_while_it_was_suspended(
    broker: MosquittoBroker, host: Host, name: str, start: Start, tmp_path: Path
) -> None:
    first = start(name)
    wait_for(lambda: b"matmul_gmac_s" in (host.retained(host.topics.profile(name)) or b""))
    assert host.states(name) == {}, "the agent answers, so its start is complete"
    first.process.send_signal(signal.SIGSTOP)
    second = start_agent(broker.url, name, tmp_path / "other")
    try:
        wait_for(lambda: "online at" in second.text())
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(20) == 1
        assert "already in use" in first.text()
        # The second agent gets back the session that the first agent took for a moment.
        wait_for(lambda: "online again" in second.text())
        wait_for(lambda: host.retained(host.topics.availability(name)) == ONLINE)
        assert host.command(name, "ping")["device"] == name
        assert second.process.poll() is None
    finally:
        assert second.stop() == 0


def test_an_agent_reconnects_to_a_restarted_broker(name: str, tmp_path: Path) -> None:
    from agent_host import Host  # noqa: PLC0415

    with MosquittoBroker(port=0) as broker:
        agent = start_agent(broker.url, name, tmp_path / name)
        try:
            host = Host(broker.url)
            host.wait_for_availability(name, ONLINE)
            host.close()
            broker.restart()
            host = Host(broker.url)
            host.wait_for_availability(name, ONLINE)
            assert host.command(name, "ping")["device"] == name
            wait_for(lambda: b"matmul_gmac_s" in (host.retained(host.topics.profile(name)) or b""))
            host.close()
            assert "lost the connection to the broker" in agent.text()
            assert "online again" in agent.text()
        finally:
            assert agent.stop() == 0


def test_no_broker_is_one_line_and_status_1(tmp_path: Path) -> None:
    options = ("--broker", "mqtt://127.0.0.1:9", "--name", "pi", "--state-dir", str(tmp_path))
    done = _run(*options)
    assert done.returncode == 1
    assert done.stderr.startswith("device-agent: No broker at mqtt://127.0.0.1:9")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--nonsense"], "--nonsense"),
        (["--broker", "mqtt://h", "--state-dir", "d"], "no name"),
        (["--broker", "mqtt://h", "--state-dir", "d", "--name", "a/b"], "'a/b'"),
        (["--broker", "mqtt://h", "--state-dir", "d", "--name", "a", "--threads", "0"], "threads"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(options: list[str], says: str) -> None:
    done = _run(*options)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_overrides_the_file_and_the_file_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('broker = "mqtt://file"\nname = "pi-1"\nstate_dir = "/s"\nram_mib = 256\n')
    config = make_config({"name": "pi-2"}, file, {"EDGE_PARTITION_BROKER": "mqtt://env"})
    assert (config.broker, config.name, config.ram_mib) == ("mqtt://file", "pi-2", 256)
    config = make_config(
        {"name": "pi", "state_dir": "/s"}, None, {"EDGE_PARTITION_BROKER": "mqtt://env"}
    )
    assert config.broker == "mqtt://env"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('passwort = "x"', "passwort is an unknown field"),
        ('password = "x"', "password is an unknown field"),
        ('threads = "4"', "expected a whole number"),
        ("threads = true", "expected a whole number"),
        ("threads = ", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        make_config({"broker": "mqtt://h", "name": "pi", "state_dir": "/s"}, file, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ca_file": "c.pem"}, "--ca-file needs TLS, and mqtt:// has none"),
        ({"certificate_file": "c.pem"}, "--certificate-file needs TLS"),
        ({"key_file": "k.pem"}, "--key-file needs a certificate"),
        ({"password_file": "p"}, "--password-file needs an account"),
    ],
)
def test_an_option_for_security_that_has_no_effect_is_refused(
    options: dict[str, str], message: str
) -> None:
    required = {"broker": "mqtt://hub", "name": "pi-1", "state_dir": "/s"}
    with pytest.raises(ConfigError, match=message):
        make_config({**required, **options}, None, {})
    secure = {**required, "broker": "mqtts://hub", "username": "pi"}
    assert make_config({**secure, "ca_file": "c.pem", "password_file": "p"}, None, {}).ca_file
