"""Write docs/planning.md: how plans are made, planning times, and predictions against measurements.

    python generators/generate_planning.py                          # time applications not in the cache
    python generators/generate_planning.py --only MobileNetV3Large --again
    python generators/generate_planning.py --table                  # time nothing, use the cache

The script keeps the applications' graphs in docs/.cache/graphs, and first makes missing ones, some
minutes each. It keeps the times in docs/measured and may be stopped and started again; nothing else
should run on the machine. The boards' measurements are in the same folder, written by
benchmarks/plan_accuracy.py, plan_throughput.py and simulate_accuracy.py. So are the operators of the
models of MLPerf, written by count_mlperf_operators.py.
"""

# ruff: noqa: E501 -- a script with paragraphs

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import math
import os
import pickle
import random
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlperf_forecast
from generate_models import in_own_process, list_applications

from edge_core.errors import EdgePartitionError
from edge_partition.pictures import svg
from edge_partition.pictures.draw_pareto import draw_pareto
from edge_partition.pictures.draw_plan import draw_plan
from edge_partition.planning.compare_plans import compare_plans
from edge_partition.planning.fleet import Device, Fleet, load_fleet
from edge_partition.planning.plan_split import InfeasiblePlanError, Objective, plan_split
from edge_partition.tflite.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DOCS = Path(__file__).parents[1] / "docs"
_GRAPHS = _DOCS / ".cache" / "graphs"
_MEASURED = _DOCS / "measured"
_EXAMPLE = "MobileNetV3Large"
_EXAMPLE_FLEET = _DOCS.parent / "examples" / "three-boards.toml"
_OBJECTIVES: tuple[Objective, ...] = ("throughput", "latency")
_RUNS = 3
_BOARD_COUNTS = (2, 4, 8, 16, 32, 64, 125, 250, 500, 1000)
_MIB = 1 << 20
_FLEET = """\
[[device]]
name = "pi-5"
board = "raspberry-pi-5"

[[device]]
name = "pi-4-a"
board = "raspberry-pi-4"

[[device]]
name = "pi-4-b"
board = "raspberry-pi-4"

[[device]]
name = "pi-3"
board = "raspberry-pi-3b-plus"
ram_mib = 128

[[device]]
name = "pi-zero"
board = "raspberry-pi-zero-2-w"
ram_mib = 48
"""
_SMALL_FLEET = """\
[[device]]
name = "pi-3"
board = "raspberry-pi-3b-plus"
ram_mib = 72

[[device]]
name = "pi-zero"
board = "raspberry-pi-zero-2-w"
ram_mib = 64
"""


def unequal_boards(count: int, kinds: int, seed: int) -> Fleet:
    """Return ``count`` boards of ``kinds`` kinds: 80 to 800 MiB, 2 to 24 GMAC/s, 40 to 900 Mbit/s."""
    rng = random.Random(seed)  # noqa: S311 -- the same boards every time
    figures = [
        {
            "ram_mib": rng.uniform(80, 800),
            "speed_gmac_s": rng.uniform(2, 24),
            "link_mbit_s": rng.uniform(40, 900),
            "link_ms": rng.uniform(0.1, 3),
        }
        for _ in range(kinds)
    ]
    return Fleet(tuple(Device(f"b{index}", **figures[index % kinds]) for index in range(count)))


_FLEETS = {"16": unequal_boards(16, 16, seed=1), "1000": unequal_boards(1000, 8, seed=3)}


def make_graph(name: str) -> Graph | None:
    """Return an application's graph; convert the application if the cache has no graph."""
    path = _GRAPHS / f"{name}.pickle"
    if not path.exists():
        print(f"converting: {name}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                process.submit(_convert, name, path).result()
        except (EdgePartitionError, BrokenProcessPool) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return None
    return load_graph(name)


def load_graph(name: str) -> Graph:
    """Return an application's graph without cached properties, as read from its file."""
    graph = pickle.loads((_GRAPHS / f"{name}.pickle").read_bytes())  # noqa: S301 -- our own
    return Graph(**{field.name: getattr(graph, field.name) for field in dataclasses.fields(Graph)})


def _convert(name: str, path: Path) -> None:
    from edge_partition.model.load_model import load_model  # noqa: PLC0415 -- TensorFlow

    path.write_bytes(pickle.dumps(load_model(name, weights="seeded").tflite.graph))


def time_plan(name: str, fleet: Fleet, objective: Objective) -> dict[str, Any]:
    """Return a plan's figures and its planning times; ``failed`` has the reason if nothing fits."""
    wall_s, cpu_s = [], []
    outcome: dict[str, Any] = {}
    for _ in range(_RUNS):
        graph = load_graph(name)
        gc.collect()
        began, cpu_began = time.perf_counter(), time.process_time()
        try:
            plan = plan_split(graph, fleet, objective)
            outcome = {
                "boards": plan.boards,
                "stages": len(plan.stages),
                "gap": plan.gap,
                "throughput_per_s": plan.throughput_per_s,
                "latency_ms": plan.latency_ms,
            }
        except InfeasiblePlanError as error:
            outcome = {"failed": str(error)}
        wall_s.append(time.perf_counter() - began)
        cpu_s.append(time.process_time() - cpu_began)
    return {"objective": objective, "wall_s": wall_s, "cpu_s": cpu_s, **outcome}


def time_application(name: str) -> dict[str, Any]:
    """Time an application's plans over both fleets."""
    graph = load_graph(name)
    runs = [
        {"fleet": label, **time_plan(name, fleet, objective)}
        for label, fleet in _FLEETS.items()
        for objective in _OBJECTIVES
    ]
    return {
        "name": name,
        "operators": len(graph.operators),
        "cuts": len(graph.cuts),
        "machine": machine(),
        "runs": runs,
    }


def time_board_counts() -> dict[str, Any]:
    """Time the example's plans over fleets of growing size, with boards of 8 kinds."""
    runs = [
        {"boards_at_hand": count, **time_plan(_EXAMPLE, unequal_boards(count, 8, 3), objective)}
        for count in _BOARD_COUNTS
        for objective in _OBJECTIVES
    ]
    return {"name": _EXAMPLE, "machine": machine(), "runs": runs}


def machine() -> dict[str, Any]:
    """Return the processor, cores and load of this machine."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": found[1] if found else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def measure(names: list[str], *, again: bool) -> None:
    """Time the applications that the cache lacks; write each result at once."""
    _MEASURED.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = _MEASURED / f"times-{name}.json"
        if (again or not path.exists()) and make_graph(name) is not None:
            path.write_text(json.dumps(time_application(name), indent=1))
            print(f"timed: {name}", file=sys.stderr, flush=True)
    path = _MEASURED / "boards.json"
    if (again or not path.exists()) and make_graph(_EXAMPLE) is not None:
        path.write_text(json.dumps(time_board_counts(), indent=1))


def write_document(names: list[str]) -> None:
    """Write planning.md and its pictures from the cache."""
    graph = make_graph(_EXAMPLE)
    if graph is None:
        raise SystemExit(f"{_EXAMPLE}, the model of the pictures, could not be converted.")
    graph = dataclasses.replace(graph, name=_EXAMPLE)
    fleet = _fleet_of(_FLEET)
    plan = plan_split(graph, fleet, wire="auto")
    (_DOCS / "planning-plan.svg").write_text(draw_plan(plan))
    # The picture of the README shows a split; without a number of stages, each of these boards gets
    # the whole model.
    split = plan_split(graph, load_fleet(_EXAMPLE_FLEET), stages=3)
    (_DOCS / "plan.svg").write_text(draw_plan(split))
    (_DOCS / "planning-pareto.svg").write_text(draw_pareto(compare_plans(graph, fleet)))
    times = [found for name in sorted(names) if (found := _cached(f"times-{name}")) is not None]
    boards = _cached("boards")
    _draw_times(times, boards)
    sections = [
        _HEAD.format(fleet=_FLEET.rstrip(), small=_SMALL_FLEET.rstrip(), error=_error(graph)),
        *_times_section(times, sorted(set(names) - {found["name"] for found in times}), boards),
        *_mlperf_section(),
        *_accuracy_section(),
        *_throughput_section(),
        *_simulate_section(),
    ]
    (_DOCS / "planning.md").write_text("\n".join(sections).rstrip() + "\n", encoding="utf-8")


def _fleet_of(words: str) -> Fleet:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.toml"
        path.write_text(words)
        return load_fleet(path)


def _error(graph: Graph) -> str:
    try:
        plan_split(graph, _fleet_of(_SMALL_FLEET))
    except InfeasiblePlanError as error:
        return str(error)
    raise SystemExit(
        f"{_EXAMPLE} fits _SMALL_FLEET. Reduce ram_mib, so that the document has an error."
    )


def _cached(name: str) -> dict[str, Any] | None:
    path = _MEASURED / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> Iterator[str]:
    """Yield a table's lines; the first ``texts`` columns are aligned to the left."""
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join(['---'] * texts + ['---:'] * (len(head) - texts))} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _on(found: dict[str, Any]) -> str:
    about = found["machine"]
    return f"{about['cpu']}, {about['cores']} cores"


def _times_verdict(times: list[dict[str, Any]], missing: list[str]) -> Iterator[str]:
    for label, goal_s, words in (("16", 2, "16 unequal boards"), ("1000", 10, "1,000 boards")):
        slow = [
            f"{found['name']} for {run['objective']}, {_wall_s(run):.1f} s"
            for found in times
            for run in found["runs"]
            if run["fleet"] == label and _wall_s(run) > goal_s
        ]
        longest = max(
            (_wall_s(run), found["name"])
            for found in times
            for run in found["runs"]
            if run["fleet"] == label
        )
        yield f"- {words}: {longest[0]:.2f} s at most, for {longest[1]}; goal: {goal_s} s."
        if slow:
            yield f"  Over the goal: {'; '.join(slow)}."
    gaps = [run.get("gap", 0.0) for found in times for run in found["runs"]]
    proven = sum(gap == 0 for gap in gaps)
    line = f"- {proven} of {len(gaps)} answers are proven"
    if proven < len(gaps):
        line += f"; the largest gap is {max(gaps):.2%}"
    yield f"{line}."
    if missing:
        yield f"- Not measured yet: {', '.join(missing)}."


def _times_section(
    times: list[dict[str, Any]], missing: list[str], boards: dict[str, Any] | None
) -> Iterator[str]:
    yield "## How long planning takes\n"
    if not times:
        yield _MISSING
        return
    yield from _times_verdict(times, missing)
    yield "\n![Planning time against operators](planning-operators.svg)\n"
    yield "![Planning time against boards](planning-boards.svg)\n"
    yield (
        f"Each time is the wall time of `plan_split` on {_on(times[0])}, one of them used: the median "
        f"of {_RUNS} runs, each without cached results. The figures of the boards are random: 80 to "
        "800 MiB, 2 to 24 GMAC/s and 40 to 900 Mbit/s.\n"
    )
    yield "- *16*: 16 boards, all different. *1,000*: 1,000 boards of 8 kinds."
    yield "- *boards*: boards used for throughput / for latency; *none* is a proof that nothing fits."
    yield (
        "- *gap*: the largest possible improvement, if the search ended without a proof; an empty "
        "cell is a proven optimum.\n"
    )
    head = ["", "operators", "cuts"]
    for words in ("16", "1,000"):
        head += [f"{words}: throughput, s", "latency, s", "boards", "gap"]
    yield from _table(head, (_times_row(found) for found in times))
    if boards is not None:
        yield from _boards_table(boards)


def _boards_table(boards: dict[str, Any]) -> Iterator[str]:
    yield f"{boards['name']} on boards of 8 kinds (up to 8 boards, all are different):\n"
    by_count: dict[int, dict[str, Any]] = {}
    for run in boards["runs"]:
        by_count.setdefault(run["boards_at_hand"], {})[run["objective"]] = run
    yield from _table(
        ("boards", "throughput, s", "latency, s", "results/s", "boards used"),
        (
            (
                f"{count:,}",
                f"{_wall_s(runs['throughput']):.2f}",
                f"{_wall_s(runs['latency']):.2f}",
                svg.number(runs["throughput"]["throughput_per_s"]),
                str(runs["throughput"]["boards"]),
            )
            for count, runs in by_count.items()
            if all("failed" not in run for run in runs.values())
        ),
        texts=0,
    )


def _times_row(found: dict[str, Any]) -> list[str]:
    cells = [found["name"], str(found["operators"]), str(found["cuts"])]
    for label in _FLEETS:
        runs = {run["objective"]: run for run in found["runs"] if run["fleet"] == label}
        cells += [f"{_wall_s(runs[objective]):.2f}" for objective in _OBJECTIVES]
        if any("failed" in run for run in runs.values()):
            cells += ["none", ""]
            continue
        used = [runs[objective]["boards"] for objective in _OBJECTIVES]
        gap = max(runs[objective]["gap"] for objective in _OBJECTIVES)
        cells += [f"{used[0]} / {used[1]}", f"{gap:.2%}" if gap else ""]
    return cells


def _wall_s(run: dict[str, Any]) -> float:
    return statistics.median(run["wall_s"])


def _mlperf_section() -> Iterator[str]:
    models = mlperf_forecast.read_models()
    forecast = [model for model in models if not model.is_fitted]
    yield "## Estimated speeds against published times\n"
    median, worst = mlperf_forecast.median_and_worst([model.error for model in forecast])
    yield (
        f"- Forecast of {len(forecast)} models on a Raspberry Pi 4: median error {median:.1%}, worst "
        f"error {worst:.1%}. Goals: 10 % and 25 %."
    )
    for first_fitted, words in ((1, "second"), (2, "third")):
        errors = mlperf_forecast.errors_if_fitted(first_fitted)
        median, worst = mlperf_forecast.median_and_worst(errors)
        yield (
            f"- With the third of the models that starts at the {words} model fitted instead: median "
            f"{median:.1%}, worst {worst:.1%}."
        )
    errors = [model.forecast_j / model.measured_j - 1 for model in models]
    median, worst = mlperf_forecast.median_and_worst(errors)
    yield (
        f"- Energy of all {len(models)} models, with one power for all: median error {median:.1%}, "
        f"worst error {worst:.1%}.\n"
    )
    yield _MLPERF.format(board=mlperf_forecast.BOARD)
    yield from _table(
        ("", "", "XNNPACK, ms", "forecast, ms", "off"),
        (
            (
                model.name,
                "int8" if model.is_quantized else "float",
                str(published_ms),
                f"{model.forecast_ms:.1f}",
                f"{model.forecast_ms / published_ms - 1:+.0%}",
            )
            for model in models
            if (published_ms := mlperf_forecast.XNNPACK_MS.get(model.name)) is not None
        ),
        texts=2,
    )
    yield "All models of MLPerf:\n"
    yield from _table(
        ("", "", "used", "measured, ms", "forecast, ms", "off", "measured, J", "forecast, J"),
        (
            (
                model.name,
                "int8" if model.is_quantized else "float",
                "fitted" if model.is_fitted else "forecast",
                f"{model.measured_ms:.1f}",
                f"{model.forecast_ms:.1f}",
                f"{model.error:+.1%}",
                f"{model.measured_j:.3f}",
                f"{model.forecast_j:.3f}",
            )
            for model in models
        ),
        texts=3,
    )


def _collect_errors(
    found: dict[str, dict[str, Any]],
) -> tuple[list[list[str]], dict[str, list[float]], dict[str, list[float]]]:
    """Return the table's rows, and the errors of turns and of plans by quantity."""
    rows: list[list[str]] = []
    errors: dict[str, list[float]] = {"invoke_ms": [], "busy_ms": [], "memory": []}
    planned: dict[str, list[float]] = {"invoke_ms": [], "busy_ms": []}
    for name, document in found.items():
        for run in document["runs"]:
            for stage in run["stages"]:
                row = [name, f"{stage['device']} of {len(run['shares'])}", f"{stage['share']:g}"]
                for key, found_planned in planned.items():
                    row += _error_cells(stage[key])
                    errors[key].append(stage[key]["error"])
                    found_planned.append(stage[key]["planned_error"])
                memory = stage["predicted_ram_bytes"] / stage["ram_bytes"] - 1
                errors["memory"].append(memory)
                rows.append([*row, f"{stage['ram_bytes'] / _MIB:.1f}", f"{memory:+.1%}"])
    return rows, errors, planned


def _accuracy_section() -> Iterator[str]:
    yield "## Predicted against measured\n"
    found = {path.stem.partition("-")[2]: json.loads(path.read_text())
             for path in sorted(_MEASURED.glob("accuracy-*.json"))}  # fmt: skip
    if not found:
        yield _MISSING
        return
    rows, errors, planned = _collect_errors(found)
    for words, of in (("in the turns", errors), ("of the plans", planned)):
        invoke, busy = (
            f"{max(of[key], key=abs):+.1%} of {what} ({_within(of[key], 0.15)} within 15 %)"
            for key, what in (("invoke_ms", "an inference"), ("busy_ms", "a stage's time"))
        )
        yield f"- Largest error {words}: {invoke}, {busy}."
    yield (
        f"- Largest error of memory: {max(errors['memory'], key=abs):+.1%} "
        f"({_within(errors['memory'], 0.1)} within 10 %).\n"
    )
    yield (
        "Goals: 15 % for times, 10 % for memory. Agents ran within a processor share and a memory "
        "limit that the kernel enforces, on links as fast as loopback. The boards profiled the model, "
        "and the best plan with one stage on each board was deployed. Then followed several turns: "
        "the boards timed their stages again as `profile` does, and requests streamed through. By "
        f"`benchmarks/plan_accuracy.py` on {_on(next(iter(found.values())))}.\n"
    )
    yield (
        "- *off*: prediction from the times of a turn against the stream of the same turn, because a "
        "shared machine is up to a third faster or slower from one ten seconds to the next. The "
        "median of the turns, with the lowest and the highest."
    )
    yield (
        "- *planned*: the plan, from the profile of some minutes earlier, against the median of the "
        "turns."
    )
    yield "- *invoke*: a stage's inference, for lone requests."
    yield (
        "- *busy*: a stage's whole time with messages, from the agent's processor time for each "
        "request at full load."
    )
    yield "- *MiB*: the agent's resident memory at the end.\n"
    head = ("", "board", "share", "invoke, ms", "off", "planned", "busy, ms", "off", "planned",
            "MiB", "off")  # fmt: skip
    yield from _table(head, rows, texts=2)
    yield from _pipelines_table(found)


def _pipelines_table(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "The whole pipelines, in requests a second with a full client window:\n"
    yield from _table(
        ("", "boards", "results/s", "off", "planned", "latency, ms", "off", "planned"),
        (
            (
                name,
                str(len(run["shares"])),
                *_error_cells(run["throughput_per_s"]),
                *_error_cells(run["latency_ms"]),
            )
            for name, document in found.items()
            for run in document["runs"]
        ),
    )


def _error_cells(found: dict[str, float]) -> list[str]:
    return [
        f"{found['measured']:.1f}",
        f"{found['error']:+.1%} ({found['least_error']:+.0%} to {found['most_error']:+.0%})",
        f"{found['planned_error']:+.1%}",
    ]


def _within(errors: list[float], goal: float) -> str:
    return f"{sum(abs(error) <= goal for error in errors)} of {len(errors)}"


_RATIOS = {
    "equal": {
        "ratio": "the best plan, against one board alone",
        "ratio_of_pipeline": "a stage on each board, against one board alone",
    },
    "unequal": {
        "ratio": "the best plan, against the sum of the boards alone",
        "ratio_of_pipeline": "a stage on each board, against the sum of the boards alone",
        "ratio_to_equal_operators": "the best plan, against equal operator counts",
        "ratio_to_equal_weights": "the best plan, against equal weights",
    },
}


def _throughput_section() -> Iterator[str]:
    yield "## What splitting brings\n"
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(_MEASURED.glob("throughput-*.json")):
        name = path.stem.split("-")[1]
        found.setdefault(name, {}).update(json.loads(path.read_text()))
    if not found:
        yield _MISSING
        return
    for kind, ratios in _RATIOS.items():
        for key, words in ratios.items():
            reached = [
                document[kind][key]["reached"]
                for document in found.values()
                if key in document.get(kind, {})
            ]
            if reached:
                ends = dict.fromkeys(f"{end:.2f}" for end in (min(reached), max(reached)))
                yield f"- {words[0].upper()}{words[1:]}: {' to '.join(ends)} times the requests a second."
    yield (
        "\nA pipeline serves less than the sum of its boards, because its boards handle more "
        "messages: a fifth to a third of a stage's time where a board runs MobileNetV3Large's part in "
        "milliseconds, a twentieth of ResNet50's.\n"
    )
    yield (
        "The compared runs took turns on the same emulated boards. *measured* is the median of the "
        "rounds, *plan* the ratio that the boards' profiles predict. By "
        f"`benchmarks/plan_throughput.py` on {_on(next(iter(found.values())))}.\n"
    )
    yield from _table(
        ("", "boards' shares of a processor", "what", "measured", "lowest to highest", "plan"),
        (
            (
                name,
                ", ".join(f"{share:g}" for share in document[kind]["shares"]),
                words,
                f"{document[kind][key]['reached']:.2f}",
                f"{document[kind][key]['lowest']:.2f} to {document[kind][key]['highest']:.2f}",
                f"{document[kind][key]['bound']:.2f}",
            )
            for name, document in found.items()
            for kind, ratios in _RATIOS.items()
            if kind in document
            for key, words in ratios.items()
            if key in document[kind]
        ),
        texts=3,
    )


def _simulate_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = []
    for document in found.values():
        shares = ", ".join(f"{share:g}" for share in document["shares"])
        link = document["link_mbit_s"]
        shares += "" if link is None else f"; {link:g} Mbit/s"
        # The last run of each load: a run at the plan's speed, if there was one.
        for run in {run["load"]: run for run in document["runs"]}.values():
            real = run["real"]
            row = [
                document["model"],
                shares,
                "window full" if run["load"] is None else f"{run['load']:.0%} of the plan's",
                ", ".join(f"{factor:.2f}" for _, factor in sorted(run["slowness"].items()))
                + ("" if run["held"] else " !"),
                f"{real['throughput_per_s']:.2f}",
                f"{real['latency_ms']['p99']:.0f}",
            ]
            for forecast in (run["forecast"], run["at_that_speed"]):
                row += [f"{forecast['throughput_error']:+.1%}", f"{forecast['p99_error']:+.1%}"]
            rows.append(row)
    return rows


def _simulate_section() -> Iterator[str]:
    yield "## Forecast against measured\n"
    found = _cached("simulate_accuracy")
    if not found:
        yield _MISSING
        return
    runs = [run for document in found.values() for run in document["runs"]]
    held = [run for run in runs if run["held"]]
    yield f"- All {len(runs)} streams, repeated ones too: {_forecasts_within(runs)}."
    yield (
        f"- The same streams, forecast at the boards' actual speed: "
        f"{_forecasts_within(runs, 'at_that_speed')}."
    )
    yield f"- The {len(held)} streams at the plan's speed: {_forecasts_within(held)}."
    yield (
        "- Four hours earlier (2026-11-26, 01:30 to 02:00 UTC), 7 of 23 streams were at the plan's "
        "speed. Throughput and p99 were within the goals in 21 and 21 of the 23 streams, and in 7 and "
        "7 of these 7.\n"
    )
    yield (
        "Goals: throughput within 10 %, p99 within 25 %. `simulate` read only the plan's document. The "
        "same arrivals were sent to emulated boards that had just timed their stages as `profile` "
        f"does. By `benchmarks/simulate_accuracy.py` on {_on(next(iter(found.values())))}.\n"
    )
    yield (
        "- *slowness*: each board's processor time for a request of the stream, over the plan's. "
        "Boards are seldom as fast during a whole stream as during their measurement. A stream was "
        "repeated if a board's slowness was not within a twentieth of 1. `!` marks the last "
        "repetition, if none was within."
    )
    yield (
        "- *at that speed*: the forecast with each board's times multiplied by its slowness. Its "
        "error is the error of the simulation alone.\n"
    )
    yield (
        "Forecasts of p99 are more often too low than too high: boards time their stages while the "
        "other boards rest, and the time of the client and the broker, about 4 ms for each request "
        "here, is not simulated. Near full load p99 is uncertain: with a board slower by a tenth, "
        "queues are twice as long. Therefore `simulate` also prints the forecast for such boards.\n"
    )
    head = ("", "shares", "arrivals", "slowness", "results/s", "p99, ms", "forecast of results/s",
            "of p99", "at that speed, results/s", "p99")  # fmt: skip
    yield from _table(head, _simulate_rows(found), texts=4)


def _forecasts_within(runs: list[dict[str, Any]], key: str = "forecast") -> str:
    throughput = _within([run[key]["throughput_error"] for run in runs], 0.10)
    p99 = _within([run[key]["p99_error"] for run in runs], 0.25)
    return f"throughput was forecast within 10 % in {throughput} and p99 within 25 % in {p99}"


_MISSING = "Not measured yet.\n"
_MLPERF = """\
The times and watts are those of MLPerf Inference v2.0 for 94 MobileNets and EfficientNet-Lites on a
Raspberry Pi 4 with TensorFlow Lite 2.7.1 and ruy. The models are rebuilt in Keras, and converted as
`split` converts them, int8 with random calibration. Every third model, in the order of the table
from the first, fits six numbers: the speed, the work of a written byte and the work of an operator,
for float and for int8 (`edge_partition/planning/operator_work.py`). The terms of the work were
chosen with all times in view; only the numbers come from the third. No model is left out.

The joules are those above an idle power of {board.idle_watts:g} W, measured by others. The forecast
takes {board.active_watts:g} W under load for every model; MLPerf measured 5.2 to 5.9 W for float
and 6.0 to 6.5 W for int8.

The other presets have no such table. A 3B+'s speeds follow from a Pi 4's by the ratios of XNNPACK's
times of both boards, one for float and one for int8. A Zero 2 W is a 3B+ at 1.0 instead of 1.4 GHz.
A Pi 5 is assumed to be 2.5 times as fast as a Pi 4, in int8 too.

The agents run XNNPACK, which is faster than ruy, most of all for MobileNet v2 and v3 in float.
XNNPACK's own times on a 64-bit Raspberry Pi 4 (github.com/google/XNNPACK, README, 8 February 2022)
show by how much a plan without a profile overestimates the times of such a model. `profile` measures
the times on the boards themselves.
"""


def _draw_times(times: list[dict[str, Any]], boards: dict[str, Any] | None) -> None:
    if times:
        (_DOCS / "planning-operators.svg").write_text(
            _plot(
                "Planning time against operators",
                "operators",
                {
                    f"{words}, {objective}": [
                        (found["operators"], _wall_s(run), found["name"])
                        for found in times
                        for run in found["runs"]
                        if (run["fleet"], run["objective"]) == (label, objective)
                    ]
                    for label, words in (("16", "16 boards"), ("1000", "1,000 boards"))
                    for objective in _OBJECTIVES
                },
            )
        )
    if boards is not None:
        (_DOCS / "planning-boards.svg").write_text(
            _plot(
                f"Planning time of {boards['name']} against boards",
                "boards, of 8 kinds",
                {
                    objective: [
                        (run["boards_at_hand"], _wall_s(run), f"{run['boards_at_hand']} boards")
                        for run in boards["runs"]
                        if run["objective"] == objective
                    ]
                    for objective in _OBJECTIVES
                },
                joined=True,
            )
        )


def _plot(
    title: str,
    across: str,
    series: dict[str, list[tuple[float, float, str]]],
    *,
    joined: bool = False,
) -> str:
    """Return an SVG of seconds against ``across``, both on log scales; each dot is a measurement."""
    width, height, left, right, top, base = 800, 560, 84, 768, 150, 484
    points = [point for line in series.values() for point in line]

    def scale(values: list[float], first: float, last: float) -> Any:
        low, high = math.log(min(values) / 1.25), math.log(max(values) * 1.25)
        return lambda value: first + (math.log(value) - low) / (high - low) * (last - first)

    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
    at_x, at_y = scale(xs, left, right), scale(ys, base, top)
    parts = [svg.text(28, 44, title, 26, weight=700)]
    for axis, values in (("x", xs), ("y", ys)):
        for power in range(-4, 5):
            for step in (1, 2, 5):
                tick = step * 10.0**power
                if not min(values) / 1.25 <= tick <= max(values) * 1.25:
                    continue
                label = f"{tick:,g}"
                if axis == "x":
                    parts.append(f'<path d="M{at_x(tick):.1f} {top}V{base}" stroke="{svg.RULE}"/>')
                    parts.append(svg.text(at_x(tick), base + 24, label, 16, colour=svg.MUTED,
                                          anchor="middle"))  # fmt: skip
                else:
                    parts.append(f'<path d="M{left} {at_y(tick):.1f}H{right}" '
                                 f'stroke="{svg.RULE}"/>')  # fmt: skip
                    parts.append(svg.text(left - 10, at_y(tick) + 6, label, 16, colour=svg.MUTED,
                                          anchor="end"))  # fmt: skip
    parts.append(f'<path d="M{left} {top}V{base}H{right}" fill="none" stroke="{svg.INK}"/>')
    parts.append(svg.text(right, base + 52, f"{across}, log scale", 17, weight=600, anchor="end"))
    parts.append(svg.text(28, top - 16, "seconds, log scale", 17, weight=600))
    for index, (name, line) in enumerate(series.items()):
        colour = svg.colour(index)
        x, y = 34 + 370 * (index % 2), 78 + 26 * (index // 2)
        parts.append(f'<circle cx="{x}" cy="{y - 6}" r="6" fill="{colour}"/>')
        parts.append(svg.text(x + 16, y, name, 17))
        if joined:
            path = "L".join(f"{at_x(x):.1f} {at_y(y):.1f}" for x, y, _ in line)
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="6" fill="{colour}" '
            f'fill-opacity="0.8"><title>{hint}: {y:.2f} s</title></circle>'
            for x, y, hint in line
        ]
    longest = max(points, key=lambda point: point[1])
    description = f"{len(points)} measurements; the longest {longest[1]:.2f} s, {longest[2]}."
    return svg.document(width, height, title, description, parts)


_HEAD = """\
# Planning

<!-- Written by generators/generate_planning.py. Change the generator, not this file. -->

```sh
edge-partition plan MobileNetV3Large --fleet fleet.toml -o plan.svg    # show and draw the plan
edge-partition plan MobileNetV3Large --fleet fleet.toml --pareto       # compare plans
edge-partition split MobileNetV3Large --fleet fleet.toml -o build      # write the bundle
```

A plan says which boards run which operators of the model, in which order, and the time, memory and
bytes of each stage. `split` writes the plan into the bundle, as `plan.json` and `plan.svg`.

## In a hurry

- Measure first, with [`edge-partition profile`](profiles.md). Without measurements, times are
  estimated from each board's speed and link, and the plan is optimal only for these estimates.
- For many requests, use `--objective throughput`, the default. For one request at a time, use
  `--objective latency`.
- For a lone request, one board that holds the whole model is often the fastest, because splitting
  adds messages. The plan then uses one board.
- For the most requests a second, boards that hold the whole model run as replicas of it. Splitting
  is for models that do not fit on every board, and for boards with slow links.

## What a plan rests on

**Time.** A stage's time has three parts: inference, from the board's profile or else from its
speed; processor time of messages in and out; and transfer time on the link, from the bytes and a
delay for each message. The delay adds to the latency, but does not reduce the throughput. Each time
says `measured` or `estimated`.

**Memory.** `ram_mib` limits the sum of: the agent with its interpreter, XNNPACK's packed copy of
the stage's weights (the agent releases the file itself), the peak of the activations, and the
messages of three requests. The first stage also holds the inputs of 13 requests, 8 of them received
ahead. `storage_mib` limits the file size. Memory is always estimated; the errors are below. An
agent's own limit (`--ram-mib`), which `profile` asks for, replaces the fleet file's; where the two
differ, `profile`, `plan`, `split` and `status --fleet` say so.

**Objectives.** `throughput`: the busiest processor or link of any stage limits the throughput. The
plan has the highest throughput and, as far as a short search finds it, the lowest latency at this
throughput. `latency`: the plan has the lowest latency of a lone request. Each of the two can have a
limit on the other: `--max-latency-ms`, `--min-throughput` (requests a second). `energy`: the plan
takes the fewest joules for a request; only `--min-throughput` can limit it.

**Energy.** The joules of a request are, for each board that it passes, the board's power under load
above its idle power (`active_watts` less `idle_watts` in the fleet file; the presets have both) for
the time that the request occupies the board's processors. Idle power does not count: the boards
take it in every plan, with or without the request. On replicas, the board that takes most counts.
Replicas save no energy, so such a plan has them only where `--min-throughput` demands them.

**int8.** Quantized operators have a speed of their own: `int8_speedup` times `speed_gmac_s`. On a
Raspberry Pi 4, int8 models take a half to a third of the time of float models. Models of
`--quantize dynamic` and `float16` are planned as float.

**Replicas.** Several boards may serve one stage. The client sends each board as much as the board
can do, so a stage serves the sum of what its boards serve, equal or not. The latency of the plan is
that of the slowest board of each stage. `--max-replicas 1` forbids replicas. If a replica dies, the
client sends the requests that were at it to the others at once. If the only board of a stage dies,
requests wait for the board.

**Several stages on a board.** A board may serve several stages with other boards' stages between
them, if that is better: a fast board with too little memory for the middle of the model, or a model
with few cuts. The board's time, memory and storage are then the sums over its stages, with the
agent's own memory once. `plan` names such boards. Models that can be cut after almost every layer
seldom gain.

**Roles.** `role = "first"` in the fleet file fixes a board to the first stage, such as the board
with the camera; `role = "last"` fixes a board to the last stage. Boards without the role cannot
have that stage.

**Data type between boards.** `--wire float16` halves the bytes of float activations between boards
and rounds them. `--wire auto` does so only at cuts where the plan improves. int8 models already
send a quarter of the bytes. [Quantization](quantization.md) shows the cost in accuracy.

**By hand.** `--stages 3` uses three boards, one stage each. `--cut LAYER`, repeatable, cuts only
after these layers.

## Reading plan.svg

![MobileNetV3Large over boards, one stage on replicas, with the bytes at each cut, a card for each stage and the unused boards](planning-plan.svg)

- The upper half shows the model: one bar for each operator in execution order, as high as the
  operator's time on its board. The bars of a stage add up to the `compute` time on its card; of
  unequal replicas, on the card of the slowest. A dashed line is a cut. Its label shows the bytes of
  one request, and `f16` where the activations travel as float16.
- The lower half has one card for each board, with its times for one request. Replicas with equal
  figures have one card. The bar under `compute` and `messages` is the time that a request takes of
  the board's processors at full load; where the board has processors to spare, the two overlap. A
  full bar there or under `link` is the bottleneck. The `RAM` bar is full at the board's limit.
- Replicas share the requests by their speed; the card shows each board's share.
- Only a faster board in place of one with a red frame raises the throughput.
- Unused boards are named at the bottom.

The fleet:

```toml
{fleet}
```

## What to choose between

`--pareto` compares plans: for each number of boards (a dozen numbers for more than 12 boards) with
one stage on each board, and for the whole fleet with replicas, from the lowest latency to the
highest throughput in seven steps. Letters mark plans that no other plan dominates in latency and
throughput. The list names their boards: an arrow between stages, a plus between replicas. `--json`
prints all plans as documents.

![Latency against throughput for each number of boards](planning-pareto.svg)

## Before there are boards

```sh
edge-partition plan MobileNetV3Large --fleet fleet.toml --json > plan.json
edge-partition simulate plan.json --rate 20 --requests 10000 --fail pi-3@10+5
```

`simulate` sends a stream of requests through the plan, with queues, links and boards that fail for
a time. The client's own code chooses the routes and the window (`--window N` fixes the window), and
sends requests again: at once on another route if a replica fails, and when a board is back if a
stage has no other board. The client hears of a failure at once; a real one waits for the broker to
notice, up to one and a half keep-alive periods if a board loses its power.

`simulate` forecasts the throughput and the percentiles of the latency, and both again with boards
slower by a tenth: near full load, a tenth makes the difference between a queue and none. The plan's
own latency is the latency of a lone request on idle boards. One client is simulated; the processors
and links of the client and the broker are not.

## When nothing fits

For this fleet

```toml
{small}
```

`plan` ends with

> {error}

The message describes the split that needs the smallest change: its board with the largest shortage
of memory, and the smallest change of the fleet file that makes the split fit. If no plan keeps a
limit on latency or throughput, the message has the best value of any plan.

## How exact it is

With one stage on each board, and up to 8 different or 16 equal boards, the search is exact:
shortest paths with resource constraints, with bounds that prove the optimum; times are whole
nanoseconds. With more boards, the search is exact over plans with few replicas of each stage, and a
local search adds plans with any number of replicas. Plans with several stages on a board are
searched completely for few boards and up to 22 cuts, and else in part. A lower bound covers all
these plans. Where the plan is not proven to be the best, `plan` prints the largest possible
improvement (`bound_ms` or `bound_j` in `--json`, `Plan.gap` in Python).

`tests/edge_partition/planning/test_plan_split.py` compares the planner with exhaustive search on
1,000 random models and fleets, for both objectives, with branches, unequal boards, memory limits,
replicas, several stages on a board and limits on the other objective. Both find the same optimum,
or both find that nothing fits, every time. `test_plan_energy.py` does the same for energy on 250
instances with one stage on each board. You can compare a plan of your own:

```python
from edge_partition.planning.plan_split import Plan, evaluate, plan_split

best = plan_split(graph, fleet, "throughput")
mine = evaluate(Plan.of(graph, [((pi_5,), 0, 60), ((pi_4_a, pi_4_b), 60, 124)]))
mine.bottleneck_ms >= best.bottleneck_ms
```

"""


def main() -> None:
    """Time the applications that the options name, then write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="time only these applications")
    parser.add_argument("--again", action="store_true", help="time applications in the cache too")
    parser.add_argument(
        "--table", action="store_true", help="time nothing; write the document from the cache"
    )
    options = parser.parse_args()
    names = in_own_process(list_applications)  # planning is timed in a process without TensorFlow
    if not options.table:
        measure(options.only or names, again=options.again)
    write_document(names)


if __name__ == "__main__":
    main()
