"""Each benchmark runs to its end and prints its figures; no time is compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from checkout import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

_BENCHMARKS = CHECKOUT / "benchmarks"
_PATIENCE_S = 120

pytestmark = pytest.mark.usefixtures("mosquitto_installed")


def _run(script: str, *options: str) -> dict[str, Any]:
    words = [sys.executable, str(_BENCHMARKS / script), "--json", *options]
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        words,
        check=False,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """A model of eight operators, to split into stages."""
    path = tmp_path / "small.tflite"
    code = "import sys, tiny_models; sys.stdout.buffer.write(tiny_models.slow_model(8))"
    words = [sys.executable, "-c", code]
    made = subprocess.run(words, check=True, capture_output=True, cwd=_BENCHMARKS, timeout=60)
    path.write_bytes(made.stdout)
    return path


def test_the_round_trip_measures_the_agent_the_pipeline_and_another_checkouts_agent() -> None:
    options = ("--rounds", "2", "--sizes", "8000", "50000", "--stream", "16")
    found = _run("round_trip.py", *options, "--against", str(CHECKOUT))
    for kind in ("plain", "tls"):
        assert set(found[kind]["round_trips"]) == {"8000", "50000"}
        for figures in (*found[kind]["round_trips"].values(), found[kind]["stream"]):
            assert {"echo", "agent", "pipeline", "before"} <= figures.keys()
            assert figures["echo"]["ratio"]["median"] == 1
            assert figures["pipeline"]["agent_cpu_us"]["median"] > 0
            assert "agent_cpu_us" not in figures["echo"]


def test_the_three_chains_give_equal_answers_and_have_their_figures(small_model: Path) -> None:
    options = ("--stages", "2", "--rounds", "2", "--requests", "12")
    (run,) = _run("chain.py", str(small_model), *options)["runs"]
    assert run["requests"] == 12
    for side in ("ours", "mqtt", "tcp"):
        assert run[side]["cpu_ms"]["median"] > 0
        assert run[side]["per_s"]["rounds"] == 2


def test_every_request_of_many_clients_ends_in_an_answer_or_an_error() -> None:
    options = ("--invoke-ms", "1", "--rounds", "1", "--seconds", "0.3")
    crowd = ("--clients", "6", "--processes", "2", "--requests", "3")
    found = _run("many_clients.py", *options, *crowd)
    hundred = found["hundred"]
    assert hundred["sent"] == 18
    assert hundred["answered"] + sum(hundred["errors"].values()) == 18
    assert len(found["fair"]["shares"]) == 4
    assert set(found["stopped"]["ratio"]) == {"frozen", "paused", "killed"}


def test_memory_is_measured_in_every_scenario() -> None:
    shaped = ("--seconds", "1", "--wide", "400", "--flood", "20")
    runs = _run("flat_memory.py", "--requests", "400", *shaped)["runs"]
    assert set(runs) == {"full", "unread", "paused", "shaped", "flooded"}
    for name in ("full", "unread", "paused"):
        assert (runs[name]["results"], runs[name]["errors"]) == (400, 0)
    assert runs["unread"]["unread"] > 0
    for run in runs.values():
        assert run["results"] > 0
        assert all(run["mb"][process] for process in ("agent", "client", "broker"))


def test_an_agents_start_memory_and_deployment_are_measured(small_model: Path) -> None:
    found = _run("agent_start.py", "--model", str(small_model), "--rounds", "1")
    for figure in ("online_ms", "serving_ms", "agent_mb", "bare_mb", "deploy_s"):
        assert found[figure]["median"] > 0


def test_a_stream_survives_the_death_of_a_replica() -> None:
    found = _run("death_of_replica.py", "--rounds", "1", "--before", "0.5", "--away", "0.5")
    assert found["errors"] == []
    assert found["sent_while_away"] == 0
    (item,) = found["rounds"]
    assert item["longest_ms"] > 0
