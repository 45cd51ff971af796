"""Measure what a stream loses when one of two replicas is killed.

    python benchmarks/death_of_replica.py

Two agents serve one stage that computes for about ``--invoke-ms``. Our ``Pipeline`` streams with
its default window. In each round, one agent is killed (SIGKILL), and started again after ``--away``
seconds. The two agents are killed alternately. A bare client receives each board's availability,
and the requests to each board's own topic of the stage, `deployment/D/stage/0/BOARD`.

- ``longest_ms``: longest latency of the results that arrive after the death. Goal: at most 1 s.
- ``usual_ms``: median latency before the death.
- ``sent_while_away``: number of requests that the client sent to the dead board between the board's
  `offline` and its next `online`. Goal: 0.
- ``sent_by_route``: number of requests to both boards' own topics. It is 0 for a version of this
  project that uses shared subscriptions, because there the broker chooses the board.
- ``back_s``: time from the start of the new agent to the first request that is sent to it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import emulated_fleet as emulation
from bench_desk import BenchDesk, Spread, add_options, finish, wait_for
from tiny_models import slow_model

from edge_core.contract.topics import OFFLINE, ONLINE, Topics
from edge_core.errors import EdgePartitionError
from edge_partition import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from bare_mqtt import BareClient
    from bench_desk import Broker

BOARDS = ("left", "right")
_DEPLOYMENT = "replicated"
#: Approximate number of products of a vector and a 512 x 512 matrix that one core computes in 1 ms.
_PRODUCTS_PER_MS = 12
_BACK_S = 30.0
_FIRST_RESULTS = 20


@dataclass
class Watch:
    """The messages that a bare client received, in the broker's order.

    Attributes:
        heard: Time of arrival, board, and the availability or ``b"request"``, for each message.
    """

    heard: list[tuple[float, str, bytes]] = field(default_factory=list)

    def listen(self, client: BareClient) -> None:
        """Note messages in :attr:`heard` until the connection ends. Runs in its own thread."""
        try:
            while True:
                message = client.receive()
                words = message.topic.decode().split("/")
                is_state = words[-1] == "availability"
                what = bytes(message.payload) if is_state else b"request"
                self.heard.append((time.perf_counter(), words[-2 if is_state else -1], what))
                client.acknowledge()
        except (OSError, ValueError):
            return

    def of(self, board: str, what: bytes, since: float = 0.0) -> list[float]:
        """Return the times of a board's messages of the kind ``what`` after the time ``since``."""
        return [
            at for at, name, heard in self.heard if (name, heard) == (board, what) and at > since
        ]


@dataclass
class Stream:
    """A stream of requests through our client, in its own thread.

    Attributes:
        ends: Time of each result.
        latencies_ms: Latency of each result, in milliseconds.
        errors: Code of each error.
        ended: Event that ends the stream.
    """

    ends: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self, broker: Broker) -> None:
        with Pipeline(_DEPLOYMENT, broker.address) as pipeline:
            for answer in pipeline.stream(self._inputs(pipeline), on_error="yield"):
                if isinstance(answer, EdgePartitionError):
                    self.errors.append(str(getattr(answer, "code", type(answer).__name__)))
                else:
                    self.ends.append(time.perf_counter())
                    self.latencies_ms.append(answer.latency_ms)

    def _inputs(self, pipeline: Pipeline) -> Iterator[np.ndarray]:
        (values,) = emulation.inputs_of(pipeline, 0)[0].values()
        while not self.ended.is_set():
            yield values

    def between(self, start: float, stop: float) -> list[float]:
        """Return the latencies of the results with ``start <= time < stop``, in milliseconds."""
        pairs = zip(self.ends, self.latencies_ms, strict=False)
        return [latency for end, latency in pairs if start <= end < stop]


class Replicas:
    """Two boards, a stream of requests through them, and the client that watches them."""

    def __init__(self, desk: BenchDesk, options: argparse.Namespace) -> None:
        self._desk, self._options, self._broker = desk, options, desk.broker()
        self._agents = {board: desk.agent(self._broker, board) for board in BOARDS}
        file = desk.write("slow", slow_model(max(1, round(options.invoke_ms * _PRODUCTS_PER_MS))))
        desk.deploy(self._broker, [f"{file}={_DEPLOYMENT}:{'+'.join(BOARDS)}"])
        self.watch, self.stream = Watch(), Stream()
        self._listener = self._broker.client("bench-watch", timeout_s=0)
        topics = Topics()
        self._listener.subscribe(topics.availability("+"))
        self._listener.subscribe(f"{topics.stage(_DEPLOYMENT, 0)}/+")
        self._streaming = threading.Thread(
            target=self.stream.run, args=(self._broker,), daemon=True
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self.watch.listen, args=(self._listener,), daemon=True).start()
        self._streaming.start()
        wait_for(lambda: len(self.stream.ends) >= _FIRST_RESULTS, "the first results")
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.ended.set()
        self._streaming.join(_BACK_S)
        self._listener.abort()

    def kill_and_start(self, board: str) -> dict[str, Any]:
        """Kill a board's agent, wait, and start the agent again; return this round's figures."""
        watch, stream, before_s = self.watch, self.stream, self._options.before
        began = time.perf_counter()
        time.sleep(before_s)
        killed = time.perf_counter()
        self._agents[board].kill()
        self._agents[board].wait()
        wait_for(lambda: watch.of(board, OFFLINE, killed), f"{board} offline")
        time.sleep(self._options.away)
        started = time.perf_counter()
        self._agents[board] = self._desk.agent(self._broker, board)
        wait_for(lambda: watch.of(board, ONLINE, started), f"{board} online")
        offline, online = watch.of(board, OFFLINE, killed)[0], watch.of(board, ONLINE, started)[0]
        if watch.of(board, b"request"):
            wait_for(lambda: watch.of(board, b"request", online), f"requests to {board}", _BACK_S)
        time.sleep(before_s)
        requests = watch.of(board, b"request", online)
        return {
            "board": board,
            "usual_ms": statistics.median(stream.between(began, killed)),
            "longest_ms": max(stream.between(killed, time.perf_counter())),
            "offline_after_s": offline - killed,
            "sent_while_away": sum(offline < at < online for at in watch.of(board, b"request")),
            "back_s": requests[0] - started if requests else None,
            "results_while_away": len(stream.between(offline, online)),
        }


def measure(desk: BenchDesk, options: argparse.Namespace) -> dict[str, Any]:
    with Replicas(desk, options) as replicas:
        rounds = [
            replicas.kill_and_start(BOARDS[number % len(BOARDS)])
            for number in range(options.rounds)
        ]
        watch, stream = replicas.watch, replicas.stream
    return {
        "rounds": rounds,
        "longest_ms": Spread.of(found["longest_ms"] for found in rounds),
        "worst_ms": max(found["longest_ms"] for found in rounds),
        "usual_ms": Spread.of(found["usual_ms"] for found in rounds),
        "sent_while_away": sum(found["sent_while_away"] for found in rounds),
        "sent_by_route": sum(len(watch.of(board, b"request")) for board in BOARDS),
        "results": len(stream.ends),
        "errors": stream.errors,
    }


def show(found: dict[str, Any]) -> None:
    for item in found["rounds"]:
        back = "" if item["back_s"] is None else f", requests again {item['back_s']:.2f} s after"
        print(
            f"{item['board']} killed: offline after {item['offline_after_s'] * 1000:.0f} ms, "
            f"longest latency {item['longest_ms']:.0f} ms (before: {item['usual_ms']:.0f} ms), "
            f"{item['sent_while_away']} requests sent to the dead board, "
            f"{item['results_while_away']} results meanwhile{back}"
        )
    print(
        f"longest of {found['results']} requests {found['worst_ms']:.0f} ms, errors "
        f"{found['errors']}, {found['sent_by_route']} requests sent by a route"
    )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--invoke-ms", type=float, default=5, help="approximate inference time, in ms"
    )
    parser.add_argument("--rounds", type=int, default=6, help="number of deaths")
    parser.add_argument(
        "--before",
        type=float,
        default=2,
        help="seconds of streaming before a death, and after the restart",
    )
    parser.add_argument(
        "--away", type=float, default=3, help="seconds from a death to the restart of the agent"
    )
    add_options(parser)
    options = parser.parse_args()
    with BenchDesk() as desk:
        document = measure(desk, options)
    if not options.json:
        show(document)
    finish("death-of-replica", document, is_json=options.json, is_kept=options.keep)


if __name__ == "__main__":
    main()
