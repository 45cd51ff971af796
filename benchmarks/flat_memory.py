"""Measure whether the memory of agent, client and broker grows over many requests.

    python benchmarks/flat_memory.py                   # 100,000 requests: some minutes
    python benchmarks/flat_memory.py --only full --requests 1000000

One agent serves a model of one ADD. A client streams through our ``Pipeline`` as fast as possible,
with the default window. The benchmark reads the resident memory of each process 20 times a second.
The warm-up is the first fifth of the samples. The growth is the median of the last tenth of the
samples minus the median of the first tenth after the warm-up. ``idle_mb`` is the memory before the
first request. Goal: each process grows by at most 2 MB in each scenario:

- ``full``: the client is alone;
- ``unread``: a bare client also sends requests to the stage all the time, and never reads answers;
- ``paused``: another ``Pipeline`` streams too, until its caller stops taking results;
- ``shaped``: the board is behind a link of 1 Mbit/s. Requests have 4 bytes and results ``--wide``
  bytes, so requests arrive far faster than results can leave the board. Several pipelines with
  default windows stream for ``--seconds``;
- ``flooded``: the same, and a bare client keeps ``--flood`` requests in flight.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench_desk import BenchDesk, add_options, finish, rss_bytes, wait_for, wait_online
from stream_client import new_counts
from tiny_models import add_model, widen_model

from edge_core.contract.topics import Topics

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from bare_mqtt import BareClient
    from bench_desk import Broker

SCENARIOS = ("full", "unread", "paused", "shaped", "flooded")
_DEPLOYMENT = "add"
_MB = 1e6
_PAUSE_S = 0.05
_SAMPLES_KEPT = 100
_PAUSE_AFTER = 50
_UNREAD_PAUSE_S = 0.002
_SHAPED_PIPELINES = 4


@dataclass
class Memory:
    """Resident memory of some processes over time.

    Attributes:
        pids: Process ids, by name of the process.
        seconds: Times of the samples, in seconds since the start of :meth:`watch`.
        mb: Samples by name of the process, in units of 10^6 bytes.
    """

    pids: dict[str, int]
    seconds: list[float] = field(default_factory=list)
    mb: dict[str, list[float]] = field(default_factory=dict)

    def watch(self, is_over: Callable[[], bool], pause_s: float, timeout_s: float) -> None:
        """Take a sample every ``pause_s``, until ``is_over()`` or for at most ``timeout_s``."""
        began = time.monotonic()
        while not is_over() and time.monotonic() - began < timeout_s:
            time.sleep(pause_s)
            found = {name: rss_bytes(pid) / _MB for name, pid in self.pids.items()}
            if not all(found.values()):
                break  # A process that has ended has no memory.
            self.seconds.append(time.monotonic() - began)
            for name, value in found.items():
                self.mb.setdefault(name, []).append(value)

    def figures(self) -> dict[str, Any]:
        step = max(1, len(self.seconds) // _SAMPLES_KEPT)
        return {
            "growth_mb": {name: _growth(values) for name, values in self.mb.items()},
            "end_mb": {name: values[-1] for name, values in self.mb.items()},
            "highest_mb": {name: max(values) for name, values in self.mb.items()},
            "seconds": [round(second, 2) for second in self.seconds[::step]],
            "mb": {
                name: [round(value, 2) for value in values[::step]]
                for name, values in self.mb.items()
            },
        }


def _growth(values: list[float]) -> float:
    tenth = max(1, len(values) // 10)
    warm = len(values) // 5
    return statistics.median(values[-tenth:]) - statistics.median(values[warm : warm + tenth])


class Fleet:
    """A broker, one agent and its deployment."""

    def __init__(self, desk: BenchDesk, model: bytes, mbit_s: float | None = None) -> None:
        """Start the broker and the agent, and deploy the model.

        Args:
            desk: Starter of the programs.
            model: The model's file content.
            mbit_s: Bandwidth of the board's link; None: the link is as fast as loopback.
        """
        self.desk, self.broker = desk, desk.broker()
        self.idle_mb: dict[str, float] = {}
        near = self.broker if mbit_s is None else desk.shaped(self.broker, mbit_s)
        self.agent_pid = desk.agent(near, "board", wait=False).pid
        wait_online(self.broker, "board")
        file = desk.write("add", model)
        desk.deploy(self.broker, [f"{file}={_DEPLOYMENT}:board"])
        self.idle_mb = {
            "agent": rss_bytes(self.agent_pid) / _MB,
            "broker": rss_bytes(self.broker.pid) / _MB,
        }

    def client(self, *options: str, pipelines: int = 1) -> tuple[subprocess.Popen[bytes], Any]:
        """Start a client process; return the process, and its counts as in `stream_client.py`."""
        name = f"client-{time.monotonic_ns()}"
        path = self.desk.folder / f"{name}.counts"
        counts = new_counts(path, pipelines)
        words = [*self.broker.options(), "--deployment", _DEPLOYMENT, "--counts", str(path)]
        words += ["--pipelines", str(pipelines), *options]
        return self.desk.start_script("stream_client.py", words, name), counts


def measure(name: str, desk: BenchDesk, options: argparse.Namespace) -> dict[str, Any]:
    if name in {"shaped", "flooded"}:
        fleet = Fleet(desk, widen_model(options.wide), options.mbit_s)
        with _flood(fleet.broker, options.flood if name == "flooded" else 0) as answers:
            found = _watch(
                fleet, ["--seconds", str(options.seconds), "--timeout", "120"],
                pipelines=_SHAPED_PIPELINES, timeout_s=options.seconds + 180,
            )  # fmt: skip
        return {**found, **answers}
    fleet = Fleet(desk, add_model(options.size))
    words = ["--requests", str(options.requests), "--seconds", str(options.timeout)]
    if name == "paused":
        _, counts = fleet.client("--pause-after", str(_PAUSE_AFTER))
        wait_for(lambda: int(counts[0, 0]) >= _PAUSE_AFTER, "the client that pauses")
    with _unread(fleet.broker, options.size if name == "unread" else 0) as sent:
        found = _watch(fleet, words, pipelines=1, timeout_s=options.timeout + 60)
    return {**found, **sent}


def _watch(fleet: Fleet, words: list[str], *, pipelines: int, timeout_s: float) -> dict[str, Any]:
    began = time.monotonic()
    client, counts = fleet.client(*words, pipelines=pipelines)
    pids = {"agent": fleet.agent_pid, "client": client.pid, "broker": fleet.broker.pid}
    memory = Memory(pids)
    memory.watch(lambda: client.poll() is not None, _PAUSE_S, timeout_s)
    seconds = time.monotonic() - began
    results, errors = counts.sum(axis=0).tolist()
    return {
        "results": results,
        "errors": errors,
        "results_per_s": results / seconds,
        "idle_mb": fleet.idle_mb,
        **memory.figures(),
    }


@contextmanager
def _unread(broker: Broker, size: int) -> Iterator[dict[str, int]]:
    """Let a bare client send requests of ``size`` bytes and read no answers; 0: no client."""
    sent = {"unread": 0} if size else {}
    if not size:
        yield sent
        return
    client = broker.client("bench-unread")
    topic = "edge/v1/client/unread/result"
    client.subscribe(topic)
    ended = threading.Event()

    def send() -> None:
        stage = Topics().stage(_DEPLOYMENT, 0).encode()
        while not ended.wait(_UNREAD_PAUSE_S):
            try:
                client.publish(
                    stage, bytes(size), response_topic=topic.encode(), correlation_data=b"unread"
                )
            except OSError:  # The broker closed the connection, or the socket is full.
                return
            sent["unread"] += 1

    with _running(send, ended, client):
        yield sent


@contextmanager
def _flood(broker: Broker, in_flight: int) -> Iterator[dict[str, int]]:
    """Let a bare client keep ``in_flight`` requests in flight; 0: no client."""
    answers = {"flood_results": 0, "flood_errors": 0} if in_flight else {}
    if not in_flight:
        yield answers
        return
    client = broker.client("bench-flood")
    topic = "edge/v1/client/flood/result"
    client.subscribe(topic)
    ended = threading.Event()

    def send() -> None:
        stage = Topics().stage(_DEPLOYMENT, 0).encode()

        def one() -> None:
            client.publish(
                stage, bytes(4), response_topic=topic.encode(), correlation_data=b"flood"
            )

        try:
            for _ in range(in_flight):
                one()
            while not ended.is_set():
                is_error = client.receive().is_error
                answers["flood_errors" if is_error else "flood_results"] += 1
                if is_error:
                    ended.wait(0.1)  # The board is overloaded.
                one()
        except OSError:
            return

    with _running(send, ended, client):
        yield answers


@contextmanager
def _running(
    send: Callable[[], None], ended: threading.Event, client: BareClient
) -> Iterator[None]:
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        client.abort()
        thread.join(10)


def show(name: str, found: dict[str, Any]) -> None:
    print(
        f"{name}: {found['results']} results, {found['errors']} errors, "
        f"{found['results_per_s']:.0f}/s"
    )
    for process, growth in found["growth_mb"].items():
        idle = f", {found['idle_mb'][process]:.1f} MB idle" if process in found["idle_mb"] else ""
        print(
            f"  {process:6} {growth:+.2f} MB after the warm-up, {found['end_mb'][process]:.1f} MB "
            f"at the end, {found['highest_mb'][process]:.1f} MB at most{idle}"
        )
    extra = {key: value for key, value in found.items() if key.startswith(("unread", "flood"))}
    if extra:
        print(f"  {extra}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000, help="number of requests")
    parser.add_argument("--size", type=int, default=8_000, help="size of a request, in bytes")
    parser.add_argument(
        "--timeout", type=float, default=600, help="time limit of a stream, in seconds"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=90,
        help="length of the streams through the slow link, in seconds",
    )
    parser.add_argument(
        "--mbit-s", type=float, default=1, help="bandwidth of the slow link, in Mbit/s"
    )
    parser.add_argument(
        "--wide", type=int, default=50_000, help="size of a result through the slow link, in bytes"
    )
    parser.add_argument(
        "--flood", type=int, default=100, help="requests that `flooded` keeps in flight"
    )
    parser.add_argument("--only", choices=SCENARIOS, nargs="+", default=SCENARIOS)
    add_options(parser)
    options = parser.parse_args()
    runs = {}
    for name in options.only:
        with BenchDesk() as desk:
            runs[name] = measure(name, desk, options)
        if not options.json:
            show(name, runs[name])
    document = {"requests": options.requests, "size_bytes": options.size, "runs": runs}
    finish("flat-memory", document, is_json=options.json, is_kept=options.keep)


if __name__ == "__main__":
    main()
