"""Measure an agent's start, its memory, and the time of a deployment.

    python benchmarks/agent_start.py
    python benchmarks/agent_start.py --model ResNet50

- ``online_ms``: time from the start of `python -m device_agent` with an empty state directory to
  its message `online`;
- ``import_ms``: time of a Python process that only imports numpy and the runtime, which every agent
  imports too;
- ``serving_ms``: time from the start of an agent with a saved deployment to the first result. A
  bare client sends a request every 0.02 s until it has the result;
- ``agent_mb``: resident memory of an agent that serves the whole model;
- ``bare_mb``: resident memory of a Python process that runs the same file with the runtime alone;
- ``idle_mb``: resident memory of an agent without a deployment;
- ``deploy_s``: time of `deploy_bundle` for the model in three stages on three agents. The time
  includes the transfer and the check of the files. ``size_bytes`` is the size of these files.

Memory of agent and runtime is read after some inferences. Each measurement is repeated in each
round.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import emulated_fleet as emulation
from bench_desk import (
    BenchDesk,
    Spread,
    add_options,
    finish,
    ratio,
    rss_bytes,
    stop,
    wait_for,
    wait_online,
)
from deploy_files import write_stages

from edge_core.contract.tensors import payload_bytes
from edge_core.contract.topics import Topics
from edge_partition import deploy_bundle, undeploy

if TYPE_CHECKING:
    from pathlib import Path

    from bench_desk import Broker

    from edge_partition.bundles.bundle import Bundle

_DEPLOYMENT = "whole"
_STAGES = 3
_MB = 1e6
_ASK_S = 0.02
_REQUESTS = 10
#: A program that runs a model, prints `ready`, and then sleeps until the benchmark has read its
#: memory and ends the program. Without a file as argument, it only imports the runtime.
_BARE = """
import sys, time, numpy
try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter
if len(sys.argv) > 1:
    interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], numpy.zeros(detail["shape"], detail["dtype"]))
    for _ in range(10):
        interpreter.invoke()
    print("ready", flush=True)
    time.sleep(600)
"""


def measure(desk: BenchDesk, options: argparse.Namespace) -> dict[str, Any]:
    broker = desk.broker()
    file = emulation.model_file(options.model)
    figures: dict[str, list[float]] = {
        name: []
        for name in ("online_ms", "import_ms", "serving_ms", "agent_mb", "bare_mb", "idle_mb")
    }
    for number in range(options.rounds):
        figures["import_ms"].append(_import_ms(desk))
        figures["bare_mb"].append(_bare_mb(desk, file))
        name = f"board-{number}"
        bundle = write_stages(file, desk.folder / f"whole-{number}", _DEPLOYMENT, [[name]])
        for key, value in _measure_agent(desk, broker, name, bundle).items():
            figures[key].append(value)
    found: dict[str, Any] = {key: Spread.of(values) for key, values in figures.items()}
    found["memory_ratio"] = ratio(figures["agent_mb"], figures["bare_mb"])
    return {"model": options.model, **found, **_measure_deploy(desk, broker, file, options.rounds)}


def _import_ms(desk: BenchDesk) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", _BARE], check=True, cwd=desk.folder, capture_output=True, timeout=60
    )
    return (time.perf_counter() - began) * 1000


def _bare_mb(desk: BenchDesk, file: Path) -> float:
    log = f"bare-{time.monotonic_ns()}"
    process = desk.start([sys.executable, "-c", _BARE, str(file)], log)
    wait_for(lambda: "ready" in desk.log(log), lambda: desk.log(log))
    found = rss_bytes(process.pid) / _MB
    stop(process)
    return found


def _measure_agent(desk: BenchDesk, broker: Broker, name: str, bundle: Bundle) -> dict[str, float]:
    began = time.perf_counter()
    agent = desk.agent(broker, name, wait=False)
    wait_online(broker, name)
    online_ms = (time.perf_counter() - began) * 1000
    idle_mb = rss_bytes(agent.pid) / _MB
    deploy_bundle(bundle, broker.address)
    stop(agent)
    began = time.perf_counter()
    agent = desk.agent(broker, name, wait=False)
    serving_ms = (_first_result(broker, bundle) - began) * 1000
    agent_mb = rss_bytes(agent.pid) / _MB
    undeploy(_DEPLOYMENT, broker.address)
    stop(agent)
    return {
        "online_ms": online_ms,
        "idle_mb": idle_mb,
        "serving_ms": serving_ms,
        "agent_mb": agent_mb,
    }


def _first_result(broker: Broker, bundle: Bundle) -> float:
    """Send requests until some results have arrived; return the time of the first result."""
    manifest = bundle.manifest
    stage = Topics().stage(manifest.deployment, 0).encode()
    topic = "edge/v1/client/start/result"
    payload = bytes(payload_bytes(manifest.inputs))
    first, results, deadline = 0.0, 0, time.monotonic() + 60
    with broker.client("bench-start") as client:
        client.subscribe(topic)
        while results < _REQUESTS:
            if time.monotonic() > deadline:
                raise SystemExit(
                    "The agent did not answer a request for its saved deployment within 60 s."
                )
            client.publish(stage, payload, response_topic=topic.encode(), correlation_data=b"start")
            while client.is_readable(_ASK_S):
                is_result = not client.receive().is_error
                results += is_result
                first = first or is_result * time.perf_counter()
                client.acknowledge()
    return first


def _measure_deploy(desk: BenchDesk, broker: Broker, file: Path, rounds: int) -> dict[str, Any]:
    boards = [f"deploy-{index}" for index in range(_STAGES)]
    for board in boards:
        desk.agent(broker, board)
    seconds = []
    bundle = write_stages(file, desk.folder / "stages", "stages", [[board] for board in boards])
    for _ in range(rounds):
        began = time.perf_counter()
        deploy_bundle(bundle, broker.address)
        seconds.append(time.perf_counter() - began)
        undeploy("stages", broker.address)
    size_bytes = sum(stage.size_bytes for stage in bundle.manifest.stages)
    return {"deploy_s": Spread.of(seconds), "stages": _STAGES, "size_bytes": size_bytes}


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['model']}: online after {found['online_ms']:.0f} ms (numpy and the runtime alone: "
        f"{found['import_ms']:.0f} ms), serving a saved deployment after "
        f"{found['serving_ms']:.0f} ms"
    )
    print(
        f"  memory {found['agent_mb']:.1f} MB, a bare interpreter {found['bare_mb']:.1f} MB, ratio "
        f"{found['memory_ratio']:.2f}; an agent without a deployment {found['idle_mb']:.1f} MB"
    )
    print(
        f"  {found['stages']} stages of {found['size_bytes'] / _MB:.1f} MB deployed in "
        f"{found['deploy_s']:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="MobileNetV3Large", help="Keras application or .tflite file"
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each measurement")
    add_options(parser)
    options = parser.parse_args()
    with BenchDesk() as desk:
        document = measure(desk, options)
    if not options.json:
        show(document)
    finish("agent-start", document, is_json=options.json, is_kept=options.keep)


if __name__ == "__main__":
    main()
