"""Compare the round trip through an agent with an echo by bare sockets through the same broker.

    python benchmarks/round_trip.py
    git worktree add ../before COMMIT
    python benchmarks/round_trip.py --against ../before

The reference is `bare_mqtt.py`: one thread, one socket, no copy of the payload. Its echo answers
each message with the message's own payload. Both ends use QoS 1, a response topic and correlation
data. Several sides take turns in each round, with one mosquitto on one machine:

- ``echo``: a bare client and the bare echo, the reference;
- ``agent``: the same bare client and an agent, whose stage is one ADD on a float32 vector;
- ``pipeline``: our ``Pipeline`` and the same agent;
- ``before`` (with ``--against``): the bare client and the agent of another checkout.

A ratio is a side's median of a turn, divided by the reference's median in the same round. The
printed figure is the median of the rounds, with the quartiles. A stream sends messages of 50 kB and
keeps 8 of them in flight. Its MB/s count the payloads of the requests only. ``agent_cpu_us`` is the
agent's processor time per message in the same turns: user and system time of all threads, in
microseconds.

The benchmark repeats everything with TLS on both sides, against bare TLS sockets. Goals for the
round trip: at most 1.6 times the reference at 8 and 50 kB, and 1.3 times from 200 kB. Goal for the
stream: at least half of the reference's MB/s.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_desk import (
    ROOT,
    BenchDesk,
    Broker,
    Spread,
    add_options,
    commit_of,
    cpu_ns,
    finish,
    in_turns,
    ratio,
)
from tiny_models import ADDED, add_model

from edge_core.contract.topics import DEFAULT_PREFIX, Topics
from edge_partition import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bare_mqtt import BareClient

SIZES_BYTES = (8_000, 50_000, 200_000, 800_000, 3_200_000)
_STREAM_BYTES = 50_000
_IN_FLIGHT = 8
#: Largest number of bytes and of messages in a turn. A turn then takes some hundredths of a second.
_TURN_BYTES = 8_000_000
_TURN_MESSAGES = 60
_STREAM_MESSAGES = 300
_BEFORE_PREFIX = "before/v1"


@dataclass(frozen=True)
class Side:
    """A client and a program that answers its messages.

    Attributes:
        round_trips: Function that takes the size of a message in bytes and the number of messages,
            and returns the time of each round trip, in seconds.
        stream: Function that takes the number of messages, and returns the time of a stream, in
            seconds.
        agent_pid: Process id of the agent; None: the side has no agent.
    """

    round_trips: Callable[[int, int], list[float]]
    stream: Callable[[int], float]
    agent_pid: int | None = None


class BareSide:
    """A bare client whose requests are answered by the echo or by an agent."""

    def __init__(
        self, client: BareClient, answers: str, topic_of: Callable[[int], str], added: float
    ) -> None:
        """Prepare a side.

        Args:
            client: The client, which has subscribed to ``answers``.
            answers: Topic of the answers.
            topic_of: Function that takes the size of a request, and returns its topic.
            added: Number that the answering program adds to each value.
        """
        self._client, self._answers, self._topic_of = client, answers.encode(), topic_of
        self._added = added
        self._numbers = itertools.count(1)

    def check(self, size_bytes: int) -> None:
        """Send one message and compare every byte of its answer."""
        payload = _payload(size_bytes)
        self._send(self._topic_of(size_bytes).encode(), payload)
        answer = self._client.receive()
        expected = (np.frombuffer(payload, np.float32) + np.float32(self._added)).tobytes()
        if answer.payload != expected:
            text = bytes(answer.payload[:200]) if answer.is_error else "another payload"
            raise SystemExit(f"The answer on {self._topic_of(size_bytes)} is wrong: {text!r}.")

    def _send(self, topic: bytes, payload: bytes) -> bytes:
        number = next(self._numbers).to_bytes(8, "big")
        self._client.publish(topic, payload, response_topic=self._answers, correlation_data=number)
        return number

    def round_trips(self, size_bytes: int, number: int) -> list[float]:
        topic, payload = self._topic_of(size_bytes).encode(), _payload(size_bytes)
        client, seconds = self._client, []
        for _ in range(number):
            began = time.perf_counter()
            sent = self._send(topic, payload)
            answer = client.receive()
            seconds.append(time.perf_counter() - began)
            if answer.correlation_data != sent or answer.is_error:
                raise SystemExit(
                    f"An answer on {topic.decode()} is an error, or belongs to another request."
                )
        client.acknowledge()
        return seconds

    def stream(self, number: int) -> float:
        topic, payload = self._topic_of(_STREAM_BYTES).encode(), _payload(_STREAM_BYTES)
        client = self._client
        began = time.perf_counter()
        for _ in range(_IN_FLIGHT):
            self._send(topic, payload)
        for sent in range(_IN_FLIGHT, number + _IN_FLIGHT):
            if client.receive().is_error:
                raise SystemExit(f"An answer on {topic.decode()} is an error.")
            if sent < number:
                self._send(topic, payload)
        seconds = time.perf_counter() - began
        client.acknowledge()
        return seconds

    def as_side(self, agent_pid: int | None = None) -> Side:
        return Side(self.round_trips, self.stream, agent_pid)


class PipelineSide:
    """Our client and an agent, with one pipeline for each size of a message."""

    def __init__(self, pipelines: dict[int, Pipeline], stream: Pipeline) -> None:
        self._pipelines, self._stream = pipelines, stream

    def check(self, size_bytes: int) -> None:
        values = _values(size_bytes)
        answer = self._pipelines[size_bytes].infer(values)
        if not np.array_equal(answer, values + np.float32(ADDED)):
            raise SystemExit(
                f"The pipeline's answer to a message of {size_bytes:,} bytes is wrong."
            )

    def round_trips(self, size_bytes: int, number: int) -> list[float]:
        pipeline, values = self._pipelines[size_bytes], _values(size_bytes)
        seconds = []
        for _ in range(number):
            began = time.perf_counter()
            pipeline.infer(values)
            seconds.append(time.perf_counter() - began)
        return seconds

    def stream(self, number: int) -> float:
        began = time.perf_counter()
        inputs = itertools.repeat(_values(_STREAM_BYTES), number)
        if sum(1 for _ in self._stream.map(inputs)) != number:
            raise SystemExit("The pipeline's stream lost an answer.")
        return time.perf_counter() - began


def _values(size_bytes: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, size_bytes // 4)).astype(np.float32)


def _payload(size_bytes: int) -> bytes:
    return _values(size_bytes).tobytes()


def measure(
    desk: BenchDesk, broker: Broker, sizes: Sequence[int], options: argparse.Namespace
) -> dict[str, Any]:
    """Start the programs at a broker, check every answer once, and measure in turns."""
    with ExitStack() as stack:
        sides, checks = _start_sides(desk, broker, sizes, options.against, stack)
        for check in checks:
            for size in sizes:
                check(size)
        found = {
            "round_trips": {str(size): _measure_size(sides, size, options.rounds) for size in sizes}
        }
        if _STREAM_BYTES in sizes:
            found["stream"] = _measure_stream(sides, options.rounds, options.stream)
    return found


def _start_sides(
    desk: BenchDesk,
    broker: Broker,
    sizes: Sequence[int],
    against: Path | None,
    stack: ExitStack,
) -> tuple[dict[str, Side], list[Callable[[int], None]]]:
    kind = "tls" if broker.ca_file else "plain"
    desk.start_bare("bare_mqtt.py", *broker.bare_options(), "--topic", "bare/echo")
    client = stack.enter_context(broker.client("bare-client"))
    answers = "edge/v1/client/bare/result"
    client.subscribe(answers)
    echo = BareSide(client, answers, lambda _size: "bare/echo", 0)
    files = {size: desk.write(f"add-{size}", add_model(size)) for size in sizes}
    # The checks also send the first requests, which take longer than later requests.
    agent = _start_agent(desk, broker, f"board-{kind}", files)
    ours = BareSide(client, answers, lambda size: str(_stage(DEFAULT_PREFIX, size)), ADDED)
    pipelines = {
        size: stack.enter_context(Pipeline(f"add-{size}", broker.address)) for size in sizes
    }
    streamed = pipelines[sizes[0]]
    if _STREAM_BYTES in sizes:
        streamed = Pipeline(f"add-{_STREAM_BYTES}", broker.address, window=_IN_FLIGHT)
        stack.enter_context(streamed)
    pipeline = PipelineSide(pipelines, streamed)
    sides = {
        "echo": echo.as_side(),
        "agent": ours.as_side(agent),
        "pipeline": Side(pipeline.round_trips, pipeline.stream, agent),
    }
    checks = [echo.check, ours.check, pipeline.check]
    if against is not None:
        prefix = _BEFORE_PREFIX
        pid = _start_agent(desk, broker, f"before-{kind}", files, root=against, prefix=prefix)
        before = BareSide(client, answers, lambda size: str(_stage(prefix, size)), ADDED)
        sides["before"] = before.as_side(pid)
        checks.append(before.check)
    return sides, checks


def _stage(prefix: str, size_bytes: int) -> str:
    return Topics(prefix).stage(f"add-{size_bytes}", 0)


def _start_agent(
    desk: BenchDesk,
    broker: Broker,
    name: str,
    files: dict[int, Path],
    *,
    root: Path = ROOT,
    prefix: str = DEFAULT_PREFIX,
) -> int:
    agent = desk.agent(broker, name, root=root, prefix=prefix)
    words = [f"{file}=add-{size}:{name}" for size, file in files.items()]
    desk.deploy(broker, words, root=root, prefix=prefix)
    return agent.pid


def _measure_size(sides: dict[str, Side], size: int, rounds: int) -> dict[str, Any]:
    number = max(4, min(_TURN_MESSAGES, _TURN_BYTES // size))
    turns: dict[str, list[float]] = {name: [] for name in sides}
    cpu_us: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side.round_trips(size, number)
    for order in in_turns(list(sides), rounds):
        for name in order:
            before = _agent_ns(sides[name])
            turns[name].append(statistics.median(sides[name].round_trips(size, number)) * 1000)
            cpu_us[name].append((_agent_ns(sides[name]) - before) / number / 1000)
    return _figures(turns, cpu_us, "ms")


def _measure_stream(sides: dict[str, Side], rounds: int, number: int) -> dict[str, Any]:
    turns: dict[str, list[float]] = {name: [] for name in sides}
    cpu_us: dict[str, list[float]] = {name: [] for name in sides}
    for order in in_turns(list(sides), rounds):
        for name in order:
            before = _agent_ns(sides[name])
            seconds = sides[name].stream(number)
            turns[name].append(_STREAM_BYTES * number / seconds / 1e6)
            cpu_us[name].append((_agent_ns(sides[name]) - before) / number / 1000)
    return _figures(turns, cpu_us, "mb_s")


def _figures(
    turns: dict[str, list[float]], cpu_us: dict[str, list[float]], unit: str
) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: {unit: Spread.of(turns[name]), "ratio": ratio(turns[name], turns["echo"])}
        for name in turns
    }
    for name, values in cpu_us.items():
        if any(values):
            found[name]["agent_cpu_us"] = Spread.of(values)
    if "before" in turns:
        found["agent_cpu_ratio"] = ratio(cpu_us["agent"], cpu_us["before"])
        found["ratio_to_before"] = ratio(turns["agent"], turns["before"])
    return found


def _agent_ns(side: Side) -> int:
    return 0 if side.agent_pid is None else cpu_ns(side.agent_pid)


def show(kind: str, found: dict[str, Any]) -> None:
    for size, figures in found["round_trips"].items():
        print(f"{kind}, round trip of {int(size) / 1000:,.0f} kB, ms:")
        _show_sides(figures, "ms")
    if "stream" in found:
        print(f"{kind}, stream of {_STREAM_BYTES / 1000:.0f} kB, {_IN_FLIGHT} in flight, MB/s:")
        _show_sides(found["stream"], "mb_s")
    sys.stdout.flush()


def _show_sides(figures: dict[str, Any], unit: str) -> None:
    for name, side in figures.items():
        if isinstance(side, Spread):
            print(f"  {name}: {side:.2f}")
            continue
        cpu = f", agent {side['agent_cpu_us']:.0f} us of CPU" if "agent_cpu_us" in side else ""
        print(f"  {name:9} {side[unit]:8.3f}, {side['ratio']:.2f} of the echo{cpu}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES_BYTES, metavar="BYTES")
    parser.add_argument("--rounds", type=int, default=31, help="number of turns of each side")
    parser.add_argument(
        "--stream",
        type=int,
        default=_STREAM_MESSAGES,
        metavar="N",
        help="number of messages of a stream",
    )
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="also measure the agent in the checkout DIR"
    )
    parser.add_argument(
        "--only", choices=("plain", "tls"), help="measure only this kind of connection"
    )
    parser.add_argument(
        "--default-heap",
        action="store_true",
        help="run mosquitto as a system service does, without broker_config's heap variables",
    )
    add_options(parser)
    options = parser.parse_args()
    if options.against is not None:
        options.against = options.against.resolve()
    document: dict[str, Any] = {"rounds": options.rounds, "default_heap": options.default_heap}
    if options.against is not None:
        document["against"] = commit_of(options.against)
    for kind in ("plain", "tls"):
        if options.only in (None, kind):
            with BenchDesk(default_heap=options.default_heap) as desk:
                broker = desk.broker() if kind == "plain" else desk.tls_broker()
                document[kind] = measure(desk, broker, options.sizes, options)
            if not options.json:
                show(kind, document[kind])
    finish("round-trip", document, is_json=options.json, is_kept=options.keep)


if __name__ == "__main__":
    main()
