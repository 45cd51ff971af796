"""Write docs/planning.md: how plans are made, how long that takes, and what they are worth.

    python generators/generate_planning.py                          # time what is not in the cache
    python generators/generate_planning.py --only MobileNetV3Large --again
    python generators/generate_planning.py --table                  # from the cache alone

The applications' graphs are kept in docs/.cache/graphs; those that are missing are made first, some
minutes each. Times are kept in docs/measured, so that the script may be stopped and started again;
nothing else should run meanwhile. What boards measured comes from the same folder, where
benchmarks/plan_accuracy.py, plan_throughput.py and simulate_accuracy.py write it.
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
    """Return boards of so many kinds: 80 to 800 MiB, 2 to 24 GMAC/s, 40 to 900 Mbit/s."""
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
    """Return an application's graph, converting it where the cache has none."""
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
    """Return an application's graph as a reader of its file would: with nothing worked out yet."""
    graph = pickle.loads((_GRAPHS / f"{name}.pickle").read_bytes())  # noqa: S301 -- our own
    return Graph(**{field.name: getattr(graph, field.name) for field in dataclasses.fields(Graph)})


def _convert(name: str, path: Path) -> None:
    from edge_partition.model.load_model import load_model  # noqa: PLC0415 -- TensorFlow

    path.write_bytes(pickle.dumps(load_model(name, weights="seeded").tflite.graph))


def time_plan(name: str, fleet: Fleet, objective: Objective) -> dict[str, Any]:
    """Return what a plan is, and how long planning took."""
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
    """Time the example's plans over fleets of 8 kinds and growing size."""
    runs = [
        {"boards_at_hand": count, **time_plan(_EXAMPLE, unequal_boards(count, 8, 3), objective)}
        for count in _BOARD_COUNTS
        for objective in _OBJECTIVES
    ]
    return {"name": _EXAMPLE, "machine": machine(), "runs": runs}


def machine() -> dict[str, Any]:
    """Return what times depend on."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": found[1] if found else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def measure(names: list[str], *, again: bool) -> None:
    """Time what the cache doesn't have, keeping each result at once."""
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
    """Write planning.md and its pictures from what is in the cache."""
    graph = make_graph(_EXAMPLE)
    if graph is None:
        raise SystemExit(f"{_EXAMPLE} is what the pictures show, and it could not be converted.")
    graph = dataclasses.replace(graph, name=_EXAMPLE)
    fleet = _fleet_of(_FLEET)
    plan = plan_split(graph, fleet, wire="auto")
    (_DOCS / "planning-plan.svg").write_text(draw_plan(plan))
    (_DOCS / "planning-pareto.svg").write_text(draw_pareto(compare_plans(graph, fleet)))
    times = [found for name in sorted(names) if (found := _cached(f"times-{name}")) is not None]
    boards = _cached("boards")
    _draw_times(times, boards)
    sections = [
        _HEAD.format(fleet=_FLEET.rstrip(), small=_SMALL_FLEET.rstrip(), error=_error(graph)),
        *_times_section(times, sorted(set(names) - {found["name"] for found in times}), boards),
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
    raise SystemExit("The small fleet holds the model; give it less memory.")


def _cached(name: str) -> dict[str, Any] | None:
    path = _MEASURED / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> Iterator[str]:
    """Yield a table whose first ``texts`` columns are aligned to the left."""
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join(['---'] * texts + ['---:'] * (len(head) - texts))} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _on(found: dict[str, Any]) -> str:
    about = found["machine"]
    return f"{about['cpu']}, {about['cores']} cores"


def _times_section(
    times: list[dict[str, Any]], missing: list[str], boards: dict[str, Any] | None
) -> Iterator[str]:
    yield "## How long planning takes\n"
    if not times:
        yield _MISSING
        return
    yield (
        f"`plan_split` on {_on(times[0])}, one of them used: wall time, the median of {_RUNS} runs,"
        " each with nothing worked out beforehand. **16 unequal boards**: no two alike. **1,000 "
        "boards**: of 8 kinds. Both have 80 to 800 MiB, 2 to 24 GMAC/s and 40 to 900 Mbit/s, at "
        "random. *Gap*: by how much, at most, a better plan could be better where the search ended "
        "before its proof; no entry is a proven optimum. *None* is a proof that nothing fits.\n"
    )
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
            yield f"  Over it: {'; '.join(slow)}."
    gaps = [run.get("gap", 0.0) for found in times for run in found["runs"]]
    proven = sum(gap == 0 for gap in gaps)
    line = f"- {proven} of {len(gaps)} answers are proven"
    if proven < len(gaps):
        line += f"; the largest gap is {max(gaps):.2%}"
    yield f"{line}."
    if missing:
        yield f"- Not measured yet: {', '.join(missing)}."
    yield "\n![Planning time against operators](planning-operators.svg)\n"
    yield "![Planning time against boards](planning-boards.svg)\n"
    head = ["", "operators", "cuts"]
    for words in ("16", "1,000"):
        head += [f"{words}: throughput, s", "latency, s", "boards", "gap"]
    yield from _table(head, (_times_row(found) for found in times))
    if boards is not None:
        yield f"{boards['name']}, boards of 8 kinds (up to 8: all different):\n"
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


def _accuracy_section() -> Iterator[str]:
    yield "## Predicted against measured\n"
    found = {path.stem.partition("-")[2]: json.loads(path.read_text())
             for path in sorted(_MEASURED.glob("accuracy-*.json"))}  # fmt: skip
    if not found:
        yield _MISSING
        return
    yield (
        "Agents within a processor share and a memory limit that the kernel holds them to, their "
        "links as fast as loopback. The boards profiled the model, and the best plan of one stage a "
        "board was deployed. Then, in turns, the boards timed their stages again as `profile` does, "
        "and requests streamed through. A machine shared with others is up to a third faster or "
        "slower from one ten seconds to the next, so that each turn's streams are held against what "
        "the times of the same turn predict; the median of the turns' errors stands here, with the "
        "least and the most. *Planned*: the error of the plan, by the profile made minutes before, "
        "against the median of the turns. *Invoke*: a stage's inference, of lone requests. *Busy*: "
        "its whole time with messages, by the processor time that its agent took for a request at "
        "full load. *MiB*: the agent's resident memory at the end. By `benchmarks/plan_accuracy.py` "
        f"on {_on(next(iter(found.values())))}; goals: 15 % for times, 10 % for memory.\n"
    )
    rows = []
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
    for words, of in (("Of the turns", errors), ("Of the plans", planned)):
        invoke, busy = (
            f"{max(of[key], key=abs):+.1%} of {what} ({_within(of[key], 0.15)} within 15 %)"
            for key, what in (("invoke_ms", "an inference"), ("busy_ms", "a stage's time"))
        )
        yield f"- {words}, the largest error: {invoke}, {busy}."
    yield (
        f"- Memory: {max(errors['memory'], key=abs):+.1%} "
        f"({_within(errors['memory'], 0.1)} within 10 %).\n"
    )
    head = ("", "board", "share", "invoke, ms", "off", "planned", "busy, ms", "off", "planned",
            "MiB", "off")  # fmt: skip
    yield from _table(head, rows, texts=2)
    yield "The pipelines as a whole, requests a second with the client's window full:\n"
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
    yield (
        "Ratios of requests a second, of runs that took turns on the same emulated boards: the "
        "median of the rounds, the lowest and the highest. *Plan*: the ratio that the boards' "
        "profiles say is to be had. By "
        f"`benchmarks/plan_throughput.py` on {_on(next(iter(found.values())))}. What a pipeline "
        "lacks to the sum its boards spend on messages, which a lone board has fewer of: a fifth to a "
        "third of a stage's time where a board does MobileNetV3Large's part in milliseconds, a "
        "twentieth of ResNet50's.\n"
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


def _simulate_section() -> Iterator[str]:
    yield "## Forecast against measured\n"
    found = _cached("simulate_accuracy")
    if not found:
        yield _MISSING
        return
    runs = [run for document in found.values() for run in document["runs"]]
    held = [run for run in runs if run["held"]]
    yield (
        "`simulate` on the plan's document alone, against the same arrivals sent to emulated "
        "boards that had just timed their stages as `profile` does. Boards are seldom as fast for a "
        "whole stream as they were when they measured themselves; *slowness*: the processor time that "
        "each took for a request of the stream, over the plan's. Streams in which a board's was not "
        "within a twentieth of 1 were repeated; where none was, the last stands here, with `!`. *At "
        "that speed*: with each board's times multiplied by its slowness, so that the error is the "
        f"simulation's alone. Of all {len(runs)} streams, repeated ones too, "
        f"{_forecasts_within(runs)}, and at that speed {_forecasts_within(runs, 'at_that_speed')}; "
        f"of the {len(held)} at the plan's speed, {_forecasts_within(held)}. Four hours "
        "before, when 7 of 23 were at the plan's speed, it was 21 and 21 of 23, and 7 and 7 of those "
        "7 (2026-11-26, 01:30 to 02:00 UTC). "
        "Forecasts are low rather than high: boards time their stages while the others rest, and the "
        "client's and the broker's own time, some 4 ms of a request here, is not simulated. "
        "Near full load p99 is uncertain by nature: a board slower by a tenth has queues twice as "
        "long, so `simulate` also prints what that would do. By `benchmarks/simulate_accuracy.py` on "
        f"{_on(next(iter(found.values())))}; goals: throughput within 10 %, p99 within 25 %.\n"
    )
    rows = []
    for document in found.values():
        shares = ", ".join(f"{share:g}" for share in document["shares"])
        link = document["link_mbit_s"]
        shares += "" if link is None else f"; {link:g} Mbit/s"
        # Of each load the last: the one that held, if one did.
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
    head = ("", "shares", "arrivals", "slowness", "results/s", "p99, ms", "forecast of results/s",
            "of p99", "at that speed, results/s", "p99")  # fmt: skip
    yield from _table(head, rows, texts=4)


def _forecasts_within(runs: list[dict[str, Any]], key: str = "forecast") -> str:
    throughput = _within([run[key]["throughput_error"] for run in runs], 0.10)
    p99 = _within([run[key]["p99_error"] for run in runs], 0.25)
    return f"throughput was forecast within 10 % in {throughput} and p99 within 25 % in {p99}"


_MISSING = "Not measured yet.\n"


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
    """Return a picture of seconds against something, both on log scales; a dot a measurement."""
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

<!-- Written by generators/generate_planning.py; change that. -->

```sh
edge-partition plan MobileNetV3Large --fleet fleet.toml -o plan.svg    # the best plan, shown
edge-partition plan MobileNetV3Large --fleet fleet.toml --pareto       # what to choose between
edge-partition split MobileNetV3Large --fleet fleet.toml -o build      # the best plan, written
```

A plan says which boards run which part of the model, in which order, cut where, and what that
costs. `split` puts it into the bundle, as `plan.json` and `plan.svg`.

## In a hurry

- Measure first: [`edge-partition profile`](profiles.md). Without it times are estimated from each
  board's speed and link, and the answer is the best one for these estimates.
- Many requests: `--objective throughput`, the default. One at a time: `--objective latency`.
- A board that holds the whole model often is the quickest for a lone request. The plan says so:
  splitting costs messages.
- Boards with memory for the whole model serve the most requests as replicas of it. Splitting is for
  models that don't fit, or fit badly.

## What a plan rests on

**Time.** A stage's inference from the board's profile, else from its speed; the processor time of
the messages in and out; the link's time by bytes, and a delay a message, which makes a request late
and the stream no slower. Each says `measured` or `estimated`.

**Memory.** The agent with its interpreter, XNNPACK's packed copy of the stage's weights (the file
itself is let go), activations at their peak, and messages: those of three requests, and for the
first stage the inputs of 13, 8 of them taken ahead; against `ram_mib`. The file's size,
against `storage_mib`. Memory is always estimated; below is how well.

**Objectives.** `throughput`: the busiest processor or link of any stage sets the pace; the pace is
to be best, then, as far as a short search tells, the latency. `latency`: the sum of what a lone
request meets is to be least. Either with a limit on the other: `--max-latency-ms`,
`--min-throughput` (requests a second).

**Replicas.** A stage may run on several boards that take requests in turn, each its share, so that
the slowest of them counts: unequal boards make poor replicas. `--max-replicas 1` forbids them. If a
replica dies, the others go on, but the broker may still give it its turn: the client sends what has
no answer again, after half a second at least, so that latency suffers and throughput falls until
it is back. If the only board of a stage dies, requests wait for it.

**Roles.** `role = "first"` in the fleet file pins a board to the start of the model, such as the
one with the camera, and `role = "last"` to the end. No other board may then have that stage.

**Wires.** `--wire float16` halves the bytes of float activations between boards and rounds them;
`--wire auto` does so only where it makes the plan better. int8 models already send a quarter.
[What it costs in accuracy](quantization.md).

**By hand.** `--stages 3`: three boards, one a stage. `--cut LAYER`, repeatable: cut just there.

## Reading plan.svg

![MobileNetV3Large over boards, one part on replicas, with the bytes at each cut, a card a stage and the boards not used](planning-plan.svg)

The upper half is the model: a bar an operator, in the order in which they run, as high as its time
on its board. A dashed line is a cut; its label says what a request sends there, and `float16` where
that is how it travels. Below is a card a stage. A full bar of `compute` or `link` is what sets the
pace; on replicas each is shared. The `RAM` bar is filled up to the board's limit, on replicas that
of the fullest. The stage framed in red is the slowest: a faster board helps there and nowhere else.
Boards that no stage uses are named underneath. The fleet:

```toml
{fleet}
```

## What to choose between

`--pareto` tries each number of boards (of more than 12, a dozen numbers) with one stage a board,
and the whole fleet with replicas, from the lowest latency to the most throughput in seven steps.
Letters mark plans that no other there is as quick and serves as many as. The list names their
boards: an arrow between stages, a plus between replicas. With `--json`, all plans as documents.

![Latency against throughput over the number of boards](planning-pareto.svg)

## Before there are boards

```sh
edge-partition plan MobileNetV3Large --fleet fleet.toml --json > plan.json
edge-partition simulate plan.json --rate 20 --requests 10000 --fail pi-3@10+5
```

`simulate` sends a stream of requests through the plan, with queues, windows, retries and boards
that go away for a while, and forecasts throughput and the latencies' percentiles, and both again
with boards slower by a tenth: near their limit that is the difference between a queue and none. A
plan's own latency is that of a lone request on idle boards.

## When nothing fits

For this fleet

```toml
{small}
```

`plan` ends with

> {error}

It names the board that is shortest of memory in the split that comes nearest, and the smallest
change of the fleet file that would fit. A limit on latency or throughput that no plan keeps is
answered with the best there is.

## How exact it is

Times are whole nanoseconds, and the search is exact: shortest paths with limited resources, whose
bounds prove the optimum. Where it would take too long it stops and says so: the plan prints by how
much a better one could be better at most (`bound_ms` in `--json`, `Plan.gap` in Python).

`tests/edge_partition/planning/test_plan_split.py` compares the planner with exhaustive search on 1,000 random
models and fleets, with branches, unequal boards, memory limits, replicas and limits on the other
objective, for both objectives: the same optimum every time, or nothing fits by both. You can try
your own plan against it:

```python
from edge_partition.planning.plan_split import Plan, evaluate, plan_split

best = plan_split(graph, fleet, "throughput")
mine = evaluate(Plan.of(graph, [((pi_5,), 0, 60), ((pi_4_a, pi_4_b), 60, 124)]))
mine.bottleneck_ms >= best.bottleneck_ms
```

"""


def main() -> None:
    """Time what is asked for, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="time these alone")
    parser.add_argument("--again", action="store_true", help="also what is in the cache")
    parser.add_argument("--table", action="store_true", help="time nothing")
    options = parser.parse_args()
    names = in_own_process(list_applications)  # what is timed here has no TensorFlow beside it
    if not options.table:
        measure(options.only or names, again=options.again)
    write_document(names)


if __name__ == "__main__":
    main()
