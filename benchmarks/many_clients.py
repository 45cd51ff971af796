"""Measure how several clients share one board.

    python benchmarks/many_clients.py

One agent serves a model that computes for about ``--invoke-ms``, so that the board is the limit.
Clients are processes with our ``Pipeline`` and its default window.

- ``fair``: four clients stream at the same time. The share of a client is its number of results,
  divided by a fourth of all results in the same time. Goal: at least 0.8.
- ``stopped``: three clients stream. A fourth client joins, and then stops in one of three ways:
  ``frozen`` by SIGSTOP with requests in flight, ``paused`` because its caller takes no results, or
  ``killed``. The figure is the throughput of the three clients, divided by their throughput without
  a fourth client. Goal: 1, within the spread.
- ``hundred``: a hundred clients in a few processes send some requests each. Goal: every request is
  answered with a result, not with an error.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from bench_desk import (
    BenchDesk,
    Spread,
    add_options,
    finish,
    in_turns,
    ratio,
    stop,
    wait_for,
)
from stream_client import new_counts
from tiny_models import slow_model

if TYPE_CHECKING:
    import subprocess

    import numpy as np
    from bench_desk import Broker

_CLIENTS = 4
#: Approximate number of products of a vector and a 512 x 512 matrix that one core computes in 1 ms.
_PRODUCTS_PER_MS = 12
_SETTLE_S = 1.5
_JOIN_RESULTS = 20
_DEPLOYMENT = "slow"


class Board:
    """A broker, an agent that serves the slow model, and the clients of this agent."""

    def __init__(self, desk: BenchDesk, invoke_ms: float) -> None:
        self._desk = desk
        self.broker: Broker = desk.broker()
        desk.agent(self.broker, "board")
        file = desk.write("slow", slow_model(max(1, round(invoke_ms * _PRODUCTS_PER_MS))))
        desk.deploy(self.broker, [f"{file}={_DEPLOYMENT}:board"])
        self._counts = desk.folder / "counts"
        self._taken = 0

    def prepare(self, pipelines: int) -> np.ndarray:
        """Create a new file of counts for the clients that start next; return the counts, all 0."""
        self._counts = self._desk.folder / f"counts-{time.monotonic_ns()}"
        self._taken = 0
        return new_counts(self._counts, pipelines)

    def client(self, *options: str, pipelines: int = 1) -> tuple[subprocess.Popen[bytes], str]:
        """Start a client; return its process and the name of its log."""
        log = f"client-{time.monotonic_ns()}"
        words = [*self.broker.options(), "--deployment", _DEPLOYMENT, "--counts", self._counts]
        words += ["--first", self._taken, "--pipelines", pipelines, *options]
        self._taken += pipelines
        return self._desk.start_script("stream_client.py", map(str, words), log), log


def measure_fair(board: Board, seconds: float, rounds: int) -> dict[str, Any]:
    counts = board.prepare(_CLIENTS)
    clients = [board.client()[0] for _ in range(_CLIENTS)]
    _wait_until_streaming(counts[:, 0])
    shares, totals = [], []
    for _ in range(rounds):
        before = counts[:, 0].copy()
        time.sleep(seconds)
        results = counts[:, 0] - before
        shares.append((results / results.mean()).tolist())
        totals.append(float(results.sum() / seconds))
    for client in clients:
        stop(client)
    return {
        "shares": [Spread.of(of_one) for of_one in zip(*shares, strict=True)],
        "least": min(map(min, shares)),
        "per_s": Spread.of(totals),
        "errors": int(counts[:, 1].sum()),
    }


def measure_stopped(board: Board, seconds: float, rounds: int) -> dict[str, Any]:
    ways = ("alone", "frozen", "paused", "killed")
    counts = board.prepare(_CLIENTS - 1 + len(ways) * rounds)
    others = counts[: _CLIENTS - 1, 0]
    clients = [board.client()[0] for _ in range(_CLIENTS - 1)]
    _wait_until_streaming(others)
    per_s: dict[str, list[float]] = {way: [] for way in ways}
    place = _CLIENTS - 1
    for order in in_turns(ways, rounds):
        for way in order:
            fourth = None
            if way != "alone":
                pause = ["--pause-after", str(_JOIN_RESULTS)] if way == "paused" else []
                fourth, _ = board.client(*pause)
                _wait_until_streaming(counts[place : place + 1, 0])
                if way != "paused":
                    number = signal.SIGSTOP if way == "frozen" else signal.SIGKILL
                    os.kill(fourth.pid, number)
                place += 1
            time.sleep(min(_SETTLE_S, seconds))
            before = int(others.sum())
            began = time.perf_counter()
            time.sleep(seconds)
            per_s[way].append((int(others.sum()) - before) / (time.perf_counter() - began))
            if fourth is not None:
                fourth.kill()
                fourth.wait()
    for client in clients:
        stop(client)
    return {
        "per_s": {way: Spread.of(values) for way, values in per_s.items()},
        "ratio": {way: ratio(per_s[way], per_s["alone"]) for way in ways[1:]},
        "errors": int(counts[: _CLIENTS - 1, 1].sum()),
    }


def measure_hundred(
    desk: BenchDesk, board: Board, clients: int, processes: int, requests: int
) -> dict[str, Any]:
    counts = board.prepare(clients)
    began = time.perf_counter()
    started = []
    for number in range(processes):
        pipelines = len(range(number, clients, processes))
        options = ("--requests", str(requests), "--latencies", "--seconds", "300")
        started.append(board.client(*options, pipelines=pipelines))
    for process, log in started:
        wait_for(lambda process=process: process.poll() is not None, log, timeout_s=400)
    seconds = time.perf_counter() - began
    streams = [stream for _, log in started for stream in json.loads(desk.log(log))]
    errors: collections.Counter[str] = collections.Counter()
    for stream in streams:
        errors.update(stream["errors"])
    latencies = [latency for stream in streams for latency in stream["latencies_ms"]]
    return {
        "clients": clients,
        "requests": clients * requests,
        "sent": sum(stream["sent"] for stream in streams),
        "answered": int(counts[:, 0].sum()),
        "errors": dict(errors),
        "seconds": seconds,
        "latency_ms": Spread.of(latencies) if latencies else None,
        "longest_ms": max(latencies, default=None),
        "clients_seconds": Spread.of(stream["seconds"] for stream in streams),
    }


def _wait_until_streaming(results: np.ndarray) -> None:
    wait_for(lambda: int(results.min()) >= _JOIN_RESULTS, "the first results of all clients")


def show(document: dict[str, Any]) -> None:
    if fair := document.get("fair"):
        shares = ", ".join(f"{share:.2f}" for share in fair["shares"])
        print(
            f"four clients, {fair['per_s']:.0f}/s in all; share of each client, 1 is fair: {shares}"
        )
        print(f"  smallest of these in a round: {fair['least']:.2f}, {fair['errors']} errors")
    if stopped := document.get("stopped"):
        print(f"three clients alone: {stopped['per_s']['alone']:.1f}/s")
        for way, found in stopped["ratio"].items():
            print(f"  with a fourth client that is {way}: {found:.3f} times as much")
    if hundred := document.get("hundred"):
        print(
            f"{hundred['clients']} clients: {hundred['answered']} of {hundred['requests']} "
            f"requests answered in {hundred['seconds']:.0f} s, errors {hundred['errors']}, longest "
            f"latency {hundred['longest_ms'] or 0:.0f} ms"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--invoke-ms", type=float, default=5, help="approximate inference time, in ms"
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of turns")
    parser.add_argument("--seconds", type=float, default=4, help="length of a turn, in seconds")
    parser.add_argument("--clients", type=int, default=100, help="clients of `hundred`")
    parser.add_argument(
        "--processes", type=int, default=4, help="processes of the clients of `hundred`"
    )
    parser.add_argument(
        "--requests", type=int, default=40, help="requests of each client of `hundred`"
    )
    parser.add_argument("--only", choices=("fair", "stopped", "hundred"))
    add_options(parser)
    options = parser.parse_args()
    document: dict[str, Any] = {"invoke_ms": options.invoke_ms}
    with BenchDesk() as desk:
        board = Board(desk, options.invoke_ms)
        if options.only in (None, "fair"):
            document["fair"] = measure_fair(board, options.seconds, options.rounds)
        if options.only in (None, "stopped"):
            document["stopped"] = measure_stopped(board, options.seconds, options.rounds)
        if options.only in (None, "hundred"):
            document["hundred"] = measure_hundred(
                desk, board, options.clients, options.processes, options.requests
            )
    if not options.json:
        show(document)
    finish("many-clients", document, is_json=options.json, is_kept=options.keep)


if __name__ == "__main__":
    main()
