"""Shared parts of the planning benchmarks: a model, emulated boards, and streams of requests.

Each emulated board is an agent with a share of this machine's processors. The kernel enforces the
share with cgroups, which needs root. Links are as fast as loopback, because links slower than the
boards would hide the speed of the boards.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.client.pipeline import Pipeline
from edge_partition.emulation.desk_fleet import DeskFleet
from edge_partition.emulation.limit_board import board_limits
from edge_partition.planning.fleet import Device, Fleet
from edge_partition.planning.plan import Plan
from edge_partition.profiling.apply_profiles import apply_profiles
from edge_partition.profiling.profile_boards import Profiler
from edge_partition.profiling.profile_store import BoardProfile, ProfileStore
from edge_partition.profiling.time_planned_stages import refine_profiles
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edge_partition.boards.deploy_bundle import LoadedStage
    from edge_partition.client.result import Result
    from edge_partition.profiling.profile_boards import Board
    from edge_partition.tflite.read_tflite import TfliteModel

MIB = 1 << 20
_DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Folder of the measured figures. Generators of documents read them.
MEASURED = _DOCS / "measured"
_MODELS = _DOCS / ".cache" / "models"
_INPUTS = 8
_BATCH_MS = 100


def load(name: str) -> TfliteModel:
    """Return a Keras application with seeded weights as a TFLite model.

    The converted model is kept in ``docs/.cache``. ``name`` may also be the path of a `.tflite`
    file.
    """
    return read_tflite(model_file(name), name=Path(name).stem)


def model_file(name: str) -> Path:
    """Return the `.tflite` file of a Keras application; convert the model if it is not cached.

    The name of a `.tflite` file stands for this file.
    """
    if name.endswith(".tflite"):
        return Path(name)
    path = _MODELS / f"{name}.tflite"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # In its own process: TensorFlow's threads would take processor time from the boards.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            process.submit(_convert, name, path).result()
    return path


def _convert(name: str, path: Path) -> None:
    from edge_partition.model.load_model import load_model  # noqa: PLC0415 -- TensorFlow

    path.write_bytes(load_model(name, weights="seeded").tflite.data)


def boards_of(shares: Sequence[float]) -> Fleet:
    """Return boards ``board-0``, ``board-1``, ... with these shares of one processor."""
    return Fleet(
        tuple(
            Device(f"board-{index}", speed_gmac_s=share, threads=1, cores=share)
            for index, share in enumerate(shares)
        )
    )


@contextmanager
def emulated(fleet: Fleet, *, shape_links: bool = False) -> Iterator[DeskFleet]:
    """Start a broker, and an agent for each board with the board's share of a processor.

    Args:
        fleet: The boards; ``speed_gmac_s`` holds the board's share of one processor.
        shape_links: Whether to emulate the bandwidth and delay of the boards' links.

    Raises:
        SystemExit: The boards' shares are more than this machine's processors.
    """
    limits, scale = board_limits(fleet, 1.0)
    if scale < 1:
        raise SystemExit(
            f"The boards' shares exceed this machine's processors. Multiply all shares by at most "
            f"{scale:.2f}."
        )
    with DeskFleet(fleet, limits=limits, shape_links=shape_links) as desk:
        yield desk


def measured(
    fleet: Fleet,
    model: TfliteModel,
    desk: DeskFleet,
    plans: Callable[[Fleet, TfliteModel], Iterable[Plan]],
) -> Fleet:
    """Profile the model on the boards; return the fleet with the measured times.

    The boards measure one after another, because they share one machine. To save time, they time
    only the stages of the plans that ``plans`` returns, not the stages of all likely plans.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = ProfileStore(Path(folder))
        with Profiler(desk.url) as profiler:
            boards = profiler.boards([device.name for device in fleet.devices])
            profiler.measure(boards, model, on_profile=store.save)
            refine_profiles(
                profiler,
                boards,
                model,
                store,
                fleet=fleet,
                plans=plans,
                on_profile=lambda _profile: None,
            )
        return apply_profiles(fleet, model.graph, model.sha256, store, on_unusable=_refuse)


def timed_again(plan: Plan, model: TfliteModel, desk: DeskFleet) -> Plan:
    """Let the boards time the plan's stages again; return the same plan with the new times."""
    times_ns: dict[str, tuple[tuple[tuple[int, int], int], ...]] = {}

    def note(profile: BoardProfile) -> None:
        item = profile.slices[-1]
        times_ns[profile.board] = (((item.start, item.stop), round(item.invoke_ms * 1e6)),)

    devices = {device.name: device for stage in plan.stages for device in stage.devices}
    with Profiler(desk.url) as profiler:
        boards = {board.name: board for board in profiler.boards(list(devices))}
        profiler.measure_stages(
            {
                boards[device.name]: [(stage.start, stage.stop)]
                for stage in plan.stages
                for device in stage.devices
            },
            {name: _nothing_timed(boards[name], model) for name in boards},
            model,
            force=True,
            on_profile=note,
        )
    now = {
        name: replace(device, stage_times=replace(device.stage_times, timed_ns=times_ns[name]))
        for name, device in devices.items()
        if device.stage_times is not None
    }
    placements = [
        ([now[device.name] for device in stage.devices], stage.start, stage.stop)
        for stage in plan.stages
    ]
    return Plan.of(plan.graph, placements, wires=plan.wires, objective=plan.objective)


def _nothing_timed(board: Board, model: TfliteModel) -> BoardProfile:
    return BoardProfile(
        model_sha256=model.sha256,
        model_name=model.graph.name,
        board=board.name,
        runtime=board.runtime,
        threads=board.threads,
        measured_at="",
        slices=(),
        messages=(),
        cores=1,
    )


def _refuse(error: Exception) -> None:
    raise error


@contextmanager
def deployed(
    plan: Plan, model: TfliteModel, desk: DeskFleet, name: str = "benchmark"
) -> Iterator[tuple[LoadedStage, ...]]:
    """Deploy a plan for the ``with`` block; yield the boards' reports about the loaded stages."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(
            Path(folder) / "build",
            model,
            plan,
            name=model.graph.name,
            deployment=name,
            quantization="none",
            weights="seeded",
        )
        with Deployer(desk.url) as deployer:
            loaded = deployer.deploy(bundle)
    try:
        yield loaded
    finally:
        with Deployer(desk.url) as deployer:
            deployer.undeploy(name)


@dataclass(frozen=True)
class Streamed:
    """The results of a stream's steady part, between the filling and the emptying of the queues.

    Attributes:
        results: Results of the steady part, in order.
        seconds: Duration of the steady part, in seconds.
        cpu_ms: Each agent's mean processor time per request of the whole stream, in milliseconds,
            by board.
        cpu_share: Each agent's processor time as a share of one processor, over the whole stream,
            by board.
    """

    results: tuple[Result, ...]
    seconds: float
    cpu_ms: dict[str, float]
    cpu_share: dict[str, float]

    @property
    def throughput_per_s(self) -> float:
        return len(self.results) / self.seconds

    def invoke_ms(self, stage: int) -> float:
        """Return the inference time of a stage, in milliseconds.

        The time is the median over batches of about 0.1 s of the mean of a batch, as in a board's
        profile.
        """
        batches: list[list[float]] = [[]]
        for result in self.results:
            if sum(batches[-1]) > _BATCH_MS:
                batches.append([])
            batches[-1].append(result.trace[stage].invoke_ms)
        return statistics.median(map(statistics.fmean, batches[: max(1, len(batches) - 1)]))

    def latency_ms(self) -> float:
        return statistics.median(result.latency_ms for result in self.results)


def inputs_of(pipeline: Pipeline, seed: int) -> list[dict[str, np.ndarray]]:
    """Return seeded random inputs of a deployment, each as an array by input name."""
    generator = np.random.default_rng(seed)
    return [
        {
            spec.name: generator.standard_normal(spec.shape).astype(spec.dtype)
            for spec in pipeline.manifest.inputs
        }
        for _ in range(_INPUTS)
    ]


def stream(
    desk: DeskFleet, seconds: float, *, window: int | None = None, name: str = "benchmark"
) -> Streamed:
    """Send requests for this many seconds; return the results after the first fifth of the time."""
    with Pipeline(name, desk.url, window=window, timeout_s=120) as pipeline:
        inputs = inputs_of(pipeline, 0)
        cpu_before = agents_cpu_s()
        started = time.perf_counter()
        endless = itertools.takewhile(
            lambda _: time.perf_counter() - started < seconds, itertools.cycle(inputs)
        )
        ends, results = [], []
        for result in pipeline.stream(endless):
            ends.append(time.perf_counter() - started)
            results.append(result)
    cpu_s = {name: spent_s - cpu_before[name] for name, spent_s in agents_cpu_s().items()}
    # The boards' queues fill before the steady part and empty after it.
    steady = [index for index, end in enumerate(ends) if seconds / 5 <= end <= seconds]
    first, last = steady[0], steady[-1]
    return Streamed(
        tuple(results[first + 1 : last + 1]),
        ends[last] - ends[first],
        {name: spent_s * 1000 / len(results) for name, spent_s in cpu_s.items()},
        {name: spent_s / ends[-1] for name, spent_s in cpu_s.items()},
    )


def agent_processes() -> dict[str, psutil.Process]:
    """Return the processes of the agents that this process started, by board."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        words = process.cmdline()
        if "device_agent" in words:
            found[words[words.index("--name") + 1]] = process
    return found


def agents_cpu_s() -> dict[str, float]:
    """Return each agent's processor time so far, in seconds, by board."""
    return {name: cpu_s_of(agent) for name, agent in agent_processes().items()}


def cpu_s_of(process: psutil.Process) -> float:
    """Return the processor time of a process so far, user and system, in seconds."""
    return sum(process.cpu_times()[:2])


def machine() -> dict[str, object]:
    """Return this machine's processor, cores, kernel and load, and the current time in UTC."""
    info = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.*)", info)
    return {
        "cpu": found[1] if found else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "load": os.getloadavg()[0],
        "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def keep(name: str, document: dict[str, object]) -> None:
    """Write figures to ``docs/measured/NAME.json``."""
    MEASURED.mkdir(exist_ok=True)
    (MEASURED / f"{name}.json").write_text(json.dumps(document, indent=1))
