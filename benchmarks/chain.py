"""Compare a chain of agents with chains of minimal programs that run the same stages.

    python benchmarks/chain.py ResNet50 MobileNetV2 MobileNetV3Large --stages 2 4

Three chains run the same `.tflite` files of one bundle, with seeded weights:

- ``ours``: our agents and our ``Pipeline``, through mosquitto;
- ``mqtt``: `bare_stages.py` through the same mosquitto, with QoS 1;
- ``tcp``: `bare_stages.py` over plain TCP, without a broker.

In each chain, each stage is one process with one interpreter thread. The clients keep equal numbers
of requests in flight and receive every answer. First each chain answers the same inputs, and the
benchmark compares every byte of the answers. Then the chains take turns. Each turn has the same
number of requests.

``cpu_ms`` is the processor time per request, in milliseconds: user and system time of the stages,
the broker and the client. The ratios are those of ``ours`` to each other chain. Each ratio is
computed for each round, and printed as the median of the rounds with the quartiles. Processor time
varies less than throughput, because all processes share this machine's processors. Goals, against
``mqtt``: at most 1.15 times the processor time, at least 0.9 times the throughput.
"""

from __future__ import annotations

import argparse
import itertools
import math
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import emulated_fleet as emulation
from bare_stages import ID_BYTES, TcpEnd
from bench_desk import (
    BenchDesk,
    Spread,
    add_options,
    cpu_ns,
    finish,
    free_port,
    in_turns,
    ratio,
    wait_online,
)
from deploy_files import write_stages

from edge_core.contract.tensors import encode_tensors, payload_bytes
from edge_partition import Pipeline, deploy_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from bare_mqtt import BareClient
    from bench_desk import Broker

    from edge_core.contract.manifest import Manifest

MODELS = ("ResNet50", "MobileNetV2", "MobileNetV3Large")
_RESULTS = "chain/results"
_INPUTS = 4
_TRIAL = 20


@dataclass(frozen=True)
class Chain:
    """A chain of stages that runs.

    Attributes:
        answers: Function that takes the number of requests and the window, sends the requests, and
            returns the bytes of every answer.
        pids: Ids of the processes of the stages and of the broker.
    """

    answers: Callable[[int, int], list[bytes]]
    pids: Sequence[int]


class OurChain:
    """Our client, in this process, in front of our agents."""

    def __init__(self, pipeline: Pipeline, inputs: Sequence[dict[str, np.ndarray]]) -> None:
        self._pipeline, self._inputs = pipeline, inputs

    def answers(self, number: int, _window: int) -> list[bytes]:
        specs = self._pipeline.manifest.outputs
        cycled = itertools.islice(itertools.cycle(self._inputs), number)
        return [encode_tensors(specs, result.outputs) for result in self._pipeline.stream(cycled)]


class BareChain:
    """A minimal client, in this process, for MQTT or TCP.

    The answers come back in the order of the requests, because each stage is one thread.
    """

    def __init__(
        self, send: Callable[[bytes, bytes], None], receive: Callable[[], tuple[bytes, bytes]],
        payloads: Sequence[bytes],
    ) -> None:  # fmt: skip
        """Prepare a client.

        Args:
            send: Function that sends a request: takes the request id and the payload.
            receive: Function that waits for an answer: returns the request id and the payload.
            payloads: Inputs, which are sent again and again in this order.
        """
        self._send, self._receive, self._payloads = send, receive, payloads

    def answers(self, number: int, window: int) -> list[bytes]:
        payloads = itertools.cycle(self._payloads)
        window = min(window, number)
        for sent in range(window):
            self._send(sent.to_bytes(ID_BYTES, "big"), next(payloads))
        found = []
        for expected in range(number):
            got, answer = self._receive()
            if int.from_bytes(got, "big") != expected:
                raise SystemExit(
                    f"Expected the answer to request {expected} next, but another answer arrived."
                )
            found.append(answer)
            if expected + window < number:
                self._send((expected + window).to_bytes(ID_BYTES, "big"), next(payloads))
        return found


def _mqtt_chain(client: BareClient, payloads: Sequence[bytes]) -> BareChain:
    client.subscribe(_RESULTS)

    def send(number: bytes, payload: bytes) -> None:
        client.publish(
            b"chain/0", payload, response_topic=_RESULTS.encode(), correlation_data=number
        )

    def receive() -> tuple[bytes, bytes]:
        message = client.receive()
        return message.correlation_data, bytes(message.payload)

    return BareChain(send, receive, payloads)


def _tcp_chain(
    desk: BenchDesk, bundle: Path, manifest: Manifest, payloads: Sequence[bytes]
) -> tuple[BareChain, list[int]]:
    """Start a TCP chain; return its client and the process ids of its stages.

    The last stage starts first, because each stage connects to the next stage at its start.
    """
    with socket.create_server(("127.0.0.1", 0)) as results:
        before = results.getsockname()[1]
        pids = []
        for stage in reversed(manifest.stages):
            port = free_port()
            ports = ("--listen", str(port), "--next", str(before))
            pids.append(
                desk.start_bare("bare_stages.py", str(bundle), str(stage.index), *ports).pid
            )
            before = port
        first = TcpEnd(socket.create_connection(("127.0.0.1", before), 20))
        last = TcpEnd(results.accept()[0], payload_bytes(manifest.outputs))

    def receive() -> tuple[bytes, bytes]:
        number, answer = last.receive()
        return number, bytes(answer)

    return BareChain(first.send, receive, payloads), pids


def measure(name: str, stages: int, options: argparse.Namespace) -> dict[str, Any]:
    window = options.window or max(4, 2 * stages)
    with BenchDesk() as desk, ExitStack() as stack:
        broker = desk.broker()
        chains = _start_chains(desk, broker, name, stages=stages, window=window, stack=stack)
        _check(chains)
        number = options.requests or _number(chains["tcp"], window, options.seconds)
        return {
            "model": name,
            "stages": stages,
            "window": window,
            "requests": number,
            **_measure_chains(chains, number, window, options.rounds),
        }


def _start_chains(
    desk: BenchDesk, broker: Broker, name: str, *, stages: int, window: int, stack: ExitStack
) -> dict[str, Chain]:
    boards = [f"board-{index}" for index in range(stages)]
    build = desk.folder / "build"
    bundle = write_stages(emulation.model_file(name), build, "chain", [[b] for b in boards])
    manifest = bundle.manifest
    agents = [desk.agent(broker, board, wait=False).pid for board in boards]
    for board in boards:
        wait_online(broker, board)
    deploy_bundle(bundle, broker.address)
    pipeline = stack.enter_context(Pipeline("chain", broker.address, window=window, timeout_s=120))
    inputs = emulation.inputs_of(pipeline, 0)[:_INPUTS]
    payloads = [encode_tensors(manifest.inputs, item) for item in inputs]
    bare = [
        desk.start_bare("bare_stages.py", str(build), str(index), *broker.bare_options()).pid
        for index in range(stages)
    ]
    mqtt = _mqtt_chain(stack.enter_context(broker.client("chain-client")), payloads)
    tcp, tcp_pids = _tcp_chain(desk, build, manifest, payloads)
    return {
        "ours": Chain(OurChain(pipeline, inputs).answers, [*agents, broker.pid]),
        "mqtt": Chain(mqtt.answers, [*bare, broker.pid]),
        "tcp": Chain(tcp.answers, tcp_pids),
    }


def _check(chains: dict[str, Chain]) -> None:
    """Check that all chains answer equally, and that different inputs get different answers."""
    answers = {name: chain.answers(_INPUTS, 1) for name, chain in chains.items()}
    if len(set(answers["tcp"])) != _INPUTS:
        raise SystemExit(
            "Different inputs have equal answers, so a comparison of the answers proves nothing."
        )
    for name, found in answers.items():
        if found != answers["tcp"]:
            raise SystemExit(
                f"The chains {name} and tcp give different answers to the same inputs."
            )


def _number(chain: Chain, window: int, seconds: float) -> int:
    """Return the number of requests that take about ``seconds``, from a short trial."""
    began = time.perf_counter()
    chain.answers(_TRIAL, window)
    return math.ceil(max(4.0 * window, seconds * _TRIAL / (time.perf_counter() - began)))


def _measure_chains(
    chains: dict[str, Chain], number: int, window: int, rounds: int
) -> dict[str, Any]:
    cpu_ms: dict[str, list[float]] = {name: [] for name in chains}
    per_s: dict[str, list[float]] = {name: [] for name in chains}
    for chain in chains.values():
        chain.answers(window, window)
    for order in in_turns(list(chains), rounds):
        for name in order:
            before, began = _cpu_ns(chains[name]), time.perf_counter()
            chains[name].answers(number, window)
            per_s[name].append(number / (time.perf_counter() - began))
            cpu_ms[name].append((_cpu_ns(chains[name]) - before) / number / 1e6)
    found: dict[str, Any] = {
        name: {"cpu_ms": Spread.of(cpu_ms[name]), "per_s": Spread.of(per_s[name])}
        for name in chains
    }
    for name in ("mqtt", "tcp"):
        found[f"cpu_ratio_to_{name}"] = ratio(cpu_ms["ours"], cpu_ms[name])
        found[f"throughput_ratio_to_{name}"] = ratio(per_s["ours"], per_s[name])
    return found


def _cpu_ns(chain: Chain) -> int:
    """Return the processor time of a chain's processes and of this process, its client, in ns."""
    return sum(map(cpu_ns, chain.pids)) + time.process_time_ns()


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['model']}, {found['stages']} stages, window {found['window']}, turns of "
        f"{found['requests']} requests:"
    )
    for name in ("ours", "mqtt", "tcp"):
        side = found[name]
        print(f"  {name:5} {side['cpu_ms']:.2f} ms of CPU per request, {side['per_s']:.1f}/s")
    for name in ("mqtt", "tcp"):
        print(
            f"  ours / {name}: CPU {found[f'cpu_ratio_to_{name}']:.2f}, throughput "
            f"{found[f'throughput_ratio_to_{name}']:.2f}"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--stages", type=int, nargs="+", default=(2, 4), metavar="N")
    parser.add_argument("--rounds", type=int, default=9, help="number of turns of each chain")
    parser.add_argument(
        "--seconds", type=float, default=3, help="approximate length of a turn, in seconds"
    )
    parser.add_argument(
        "--requests", type=int, help="number of requests of a turn, instead of --seconds"
    )
    parser.add_argument(
        "--window", type=int, help="requests in flight (default: 2 per stage, at least 4)"
    )
    add_options(parser)
    options = parser.parse_args()
    runs = []
    for name, stages in itertools.product(options.models, options.stages):
        runs.append(measure(name, stages, options))
        if not options.json:
            show(runs[-1])
    finish("chain", {"runs": runs}, is_json=options.json, is_kept=options.keep)


if __name__ == "__main__":
    main()
