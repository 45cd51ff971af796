"""Measure the time and memory that slicing a model takes.

    python benchmarks/slice_models.py MobileNetV3Large NASNetMobile
    python benchmarks/slice_models.py converted.tflite --parts 8 --json

Keras applications are converted first, with seeded weights; the conversion is not measured. Reading
and slicing are measured together, in a new process. The process has one part in memory at a time,
as `edge-partition split` has. The peak is the largest growth of the resident memory (VmHWM of
Linux), including pages of the mapped model. Goals: less than 2 s, and at most three times the
model's size.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.slice_model import slice_model

_MIB = 1 << 20


@dataclass(frozen=True)
class Slicing:
    """Time and memory of slicing one model.

    Attributes:
        model: Name of the model.
        parts: Number of parts.
        size_bytes: Size of the model's file.
        seconds: Wall time of reading and slicing.
        cpu_seconds: Processor time of reading and slicing. Other programs on the machine change
            this time less than the wall time.
        peak_bytes: Largest growth of the process's resident memory, in bytes.
    """

    model: str
    parts: int
    size_bytes: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.model}: {self.size_bytes / _MIB:.1f} MiB into {self.parts} parts in "
            f"{self.seconds:.2f} s ({self.cpu_seconds:.2f} s of CPU), "
            f"{self.peak_bytes / _MIB:.1f} MiB at the peak "
            f"({self.peak_bytes / self.size_bytes:.2f} times the model)"
        )


def measure(name: str, path: Path, parts: int) -> Slicing:
    """Plan ``parts`` stages on equal boards, then slice the model in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        positions = processes.submit(_plan, path, parts).result()
        figures = processes.submit(_slice, path, positions).result()
    return Slicing(name, parts, path.stat().st_size, *figures)


def _plan(path: Path, parts: int) -> list[int]:
    graph = read_tflite(path).graph
    plan = plan_split(graph, equal_fleet(parts), stages=parts)
    return [0, *(stage.stop for stage in plan.stages)]


def _slice(path: Path, positions: list[int]) -> tuple[float, float, int]:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # Sets VmHWM to the current resident memory.
    before_bytes = _status_bytes("VmRSS")
    began, cpu_began = time.perf_counter(), time.process_time()
    model = read_tflite(path)
    for start, stop in pairwise(positions):
        slice_model(model, start, stop)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return seconds, cpu_seconds, _status_bytes("VmHWM") - before_bytes


def _status_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def _convert(name: str, path: Path) -> None:
    from edge_partition.model.load_model import load_model  # noqa: PLC0415 -- TensorFlow

    path.write_bytes(load_model(name, weights="seeded").tflite.data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="Keras application or .tflite file"
    )
    parser.add_argument("--parts", type=int, default=8, help="number of parts")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            path = Path(name)
            if path.suffix != ".tflite":
                path = Path(folder) / "model.tflite"
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    process.submit(_convert, name, path).result()
            results.append(measure(Path(name).stem, path, options.parts))
            if not options.json:
                print(results[-1], flush=True)
    if options.json:
        json.dump([asdict(result) for result in results], sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
