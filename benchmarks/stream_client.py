"""A client process of a benchmark, which streams random inputs and counts results and errors.

    python benchmarks/stream_client.py --broker URL --deployment add --counts FILE --requests 1000

The process has one or more pipelines. For each pipeline, `FILE` holds two int64 numbers, the
results and the errors so far, which the benchmark can read at any time. At the end, the process
prints one JSON document.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import EdgePartitionError
from edge_core.mqtt.broker_address import BrokerAddress
from edge_partition import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

_INPUTS = 4
_LONG_S = 86_400.0


def new_counts(path: Path, pipelines: int) -> np.ndarray:
    """Create a file of counts; return the counts, ``(pipelines, 2)``: results and errors, all 0."""
    np.zeros((pipelines, 2), np.int64).tofile(path)
    return read_counts(path)


def read_counts(path: Path) -> np.ndarray:
    return np.memmap(path, np.int64, "r+").reshape(-1, 2)


class Streaming:
    """The stream of one pipeline.

    Attributes:
        errors: Number of errors, by error code, or by class if the error has no code.
        sent: Number of requests.
        latencies_ms: Latency of each result, in milliseconds.
        seconds: Time from the first request to the last answer, in seconds.
    """

    def __init__(self, options: argparse.Namespace, counts: np.ndarray) -> None:
        self._options, self._counts = options, counts
        self.errors: collections.Counter[str] = collections.Counter()
        self.sent = 0
        self.latencies_ms: list[float] = []
        self.seconds = 0.0

    def run(self) -> None:
        options = self._options
        broker = BrokerAddress.parse(options.broker, ca_file=options.ca_file)
        try:
            with Pipeline(
                options.deployment, broker, window=options.window, timeout_s=options.timeout
            ) as pipeline:
                began = time.perf_counter()
                self._stream(pipeline)
                self.seconds = time.perf_counter() - began
        except EdgePartitionError as error:
            self._note(error)

    def _stream(self, pipeline: Pipeline) -> None:
        stream = pipeline.stream(self._inputs(pipeline), on_error="yield")
        for number, answer in enumerate(stream, start=1):
            if isinstance(answer, EdgePartitionError):
                self._note(answer)
            else:
                self._counts[0] += 1
                if self._options.latencies:
                    self.latencies_ms.append(answer.latency_ms)
            if number == self._options.pause_after:
                time.sleep(_LONG_S)

    def _note(self, error: EdgePartitionError) -> None:
        self.errors[str(getattr(error, "code", type(error).__name__))] += 1
        self._counts[1] += 1

    def _inputs(self, pipeline: Pipeline) -> Iterator[Any]:
        random = np.random.default_rng(0)
        (spec,) = pipeline.manifest.inputs
        made = [random.standard_normal(spec.shape).astype(spec.dtype) for _ in range(_INPUTS)]
        ends = time.monotonic() + self._options.seconds
        for number, values in enumerate(itertools.cycle(made)):
            if number == self._options.requests or time.monotonic() > ends:
                return
            self.sent += 1
            yield values

    def figures(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "answered": int(self._counts[0]),
            "errors": dict(self.errors),
            "seconds": self.seconds,
            "latencies_ms": self.latencies_ms,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", required=True, metavar="URL")
    parser.add_argument("--ca-file", help="PEM file of the certificate to trust, for TLS")
    parser.add_argument("--deployment", required=True)
    parser.add_argument("--counts", type=Path, required=True, help="file that new_counts made")
    parser.add_argument("--pipelines", type=int, default=1, help="number of pipelines")
    parser.add_argument("--first", type=int, default=0, help="row of FILE for the first pipeline")
    parser.add_argument(
        "--requests", type=int, default=-1, help="number of requests of each pipeline"
    )
    parser.add_argument(
        "--seconds", type=float, default=600, help="time limit of a stream, in seconds"
    )
    parser.add_argument("--window", type=int, help="requests in flight (default: the client's)")
    parser.add_argument(
        "--timeout", type=float, default=30, help="timeout of a request, in seconds"
    )
    parser.add_argument("--latencies", action="store_true", help="report each latency")
    parser.add_argument(
        "--pause-after",
        type=int,
        default=-1,
        metavar="N",
        help="stop taking results after N of them",
    )
    options = parser.parse_args()
    counts = read_counts(options.counts)
    streams = [
        Streaming(options, counts[options.first + index]) for index in range(options.pipelines)
    ]
    threads = [threading.Thread(target=stream.run, daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps([stream.figures() for stream in streams]), flush=True)


if __name__ == "__main__":
    main()
