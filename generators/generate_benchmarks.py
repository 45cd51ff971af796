"""Write docs/benchmarks.md and its plots from the figures that the benchmarks keep.

    make bench                                    # measure everything, then write the document
    python generators/generate_benchmarks.py      # write the document from docs/measured

A benchmark that has no figures in docs/measured has no section.
"""

# ruff: noqa: E501 -- a script with paragraphs

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bar_chart import Bar, bar_chart, line_panels

from edge_partition.pictures import svg

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOCS = Path(__file__).parents[1] / "docs"
_MEASURED = _DOCS / "measured"
_KINDS = {"plain": "", "tls": ", TLS"}
_SIDES = {
    "agent": "bare client and agent",
    "pipeline": "`Pipeline` and agent",
    "before": "bare client and agent of before",
}
#: Highest ratio to bare sockets, up to and including a size in bytes.
_ROUND_TRIP_GOALS = {50_000: 1.6, 3_200_000: 1.3}
_STREAM_GOAL = 0.5
_CHAIN_CPU_GOAL, _CHAIN_THROUGHPUT_GOAL = 1.15, 0.9
_SHARE_GOAL = 0.8
_GROWTH_GOAL_MB = 2.0
_LATENCY_GOAL_MS = 1000.0

_HEAD = """\
# Benchmarks

<!-- Written by generators/generate_benchmarks.py. Change the generator, not this file. -->

```sh
make bench                  # all of these figures, in less than 40 minutes
make bench BEFORE=DIR       # beside the agent of another checkout
```

Each benchmark starts its own broker, agents and clients on one machine, with the real programs. The
sides of a comparison take turns in one run. A figure is the median of the rounds, with the quartiles
in parentheses; a ratio is computed within each round. Nothing else should run on the machine. Each
script in `benchmarks/` says what it measures and against what; `-h` lists its options.
"""


def _read(name: str) -> dict[str, Any] | None:
    path = _MEASURED / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _spread(found: dict[str, float], digits: int = 2) -> str:
    middle, low, high = (f"{found[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return f"{middle} ({low} to {high})"


def _measured_on(document: dict[str, Any], script: str) -> str:
    machine = document["machine"]
    return (
        f"By `benchmarks/{script}`, on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['at'][:10]}, commit {document['commit']}.\n"
    )


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _round_trip_goal(size_bytes: int) -> float:
    return next(goal for most, goal in _ROUND_TRIP_GOALS.items() if size_bytes <= most)


# Round trip


def _round_trip(document: dict[str, Any]) -> Iterator[str]:
    kinds = [kind for kind in _KINDS if kind in document]
    yield "## Round trip against bare sockets\n"
    yield (
        "The reference is a pair of bare sockets that speak MQTT by hand: a client, and an echo that "
        "answers each message with the message's payload, through the same broker. The agent runs one "
        "ADD. Both use QoS 1. mosquitto has the settings of `broker-config serve`, with the variables of "
        "the heap. A system service has no such variables: mosquitto then returns the memory of each "
        "large message to the system. That costs more with an agent than with the echo, because the "
        "broker keeps a request until it has the result. At 3.2 MB the ratio was 2.00 (1.97 to 2.07) "
        "without the variables and 1.19 (1.14 to 1.40) with them (2026-11-29; `--default-heap`).\n"
    )
    (_DOCS / "benchmarks-round-trip.svg").write_text(_draw_round_trip(document, kinds))
    yield "![Round trips over those of bare sockets](benchmarks-round-trip.svg)\n"
    for kind in kinds:
        yield f"### {'Without TLS' if kind == 'plain' else 'With TLS on both sides'}\n"
        yield from _round_trip_table(document[kind]["round_trips"])
        if "stream" in document[kind]:
            yield from _stream_table(document[kind]["stream"])
    yield _measured_on(document, "round_trip.py")


def _round_trip_table(sizes: dict[str, Any]) -> Iterator[str]:
    sides = [name for name in _SIDES if name in next(iter(sizes.values()))]
    head = ["payload", "goal", "bare sockets, ms"]
    for name in sides:
        head += [f"{_SIDES[name]}, ms", "ratio"]
    rows = []
    for size, found in sizes.items():
        row = [svg.size(int(size)), f"{_round_trip_goal(int(size))}"]
        row.append(_spread(found["echo"]["ms"], 3))
        for name in sides:
            row += [_spread(found[name]["ms"], 3), _spread(found[name]["ratio"])]
        rows.append(row)
    yield from _table(head, rows)


def _stream_table(found: dict[str, Any]) -> Iterator[str]:
    yield "Stream of 50 kB, 8 in flight:\n"
    rows = [["bare sockets", _spread(found["echo"]["mb_s"], 0), "", "", ""]]
    for name, label in _SIDES.items():
        if name in found:
            side = found[name]
            goal = "" if name == "before" else f"{_STREAM_GOAL}"
            cpu = _spread(side["agent_cpu_us"], 0)
            rows.append([label, _spread(side["mb_s"], 0), goal, _spread(side["ratio"]), cpu])
    yield from _table(["", "MB/s", "goal", "ratio", "agent's processor time a message, µs"], rows)
    if "agent_cpu_ratio" in found:
        yield (
            "The agent's processor time a message over that of the agent of before: "
            f"{_spread(found['agent_cpu_ratio'])}; the goal is at most 0.5.\n"
        )


def _draw_round_trip(document: dict[str, Any], kinds: list[str]) -> str:
    bars = [
        Bar(
            svg.size(int(size)),
            _SIDES[name].replace("`", "") + _KINDS[kind],
            *(found[name]["ratio"][key] for key in ("median", "low", "high")),
            goal=_round_trip_goal(int(size)),
        )
        for kind in kinds
        for size, found in document[kind]["round_trips"].items()
        for name in ("agent", "pipeline")
    ]
    return bar_chart("Round trip over that of bare sockets", "times as long", bars)


# Chains


def _chain(document: dict[str, Any]) -> Iterator[str]:
    yield "## Models in stages against bare chains\n"
    yield (
        "The same stage files run on our agents with `Pipeline` (*ours*), on bare MQTT sockets through "
        "the same broker (*MQTT*), and on plain TCP sockets without a broker (*TCP*): one process and "
        "one interpreter thread a stage, one client, the same window, every answer compared byte by "
        "byte. Processor time is that of all processes, broker and client included, for one inference. "
        f"Goals, against MQTT: at most {_CHAIN_CPU_GOAL} times the processor time, at least "
        f"{_CHAIN_THROUGHPUT_GOAL} of the throughput.\n"
    )
    bars = [
        Bar(
            f"{run['model']}\n{run['stages']} stages",
            f"over bare {name.upper()}",
            *(run[f"cpu_ratio_to_{name}"][key] for key in ("median", "low", "high")),
            goal=_CHAIN_CPU_GOAL if name == "mqtt" else None,
        )
        for run in document["runs"]
        for name in ("mqtt", "tcp")
    ]
    picture = bar_chart("Processor time an inference over bare chains", "times as much", bars)
    (_DOCS / "benchmarks-chain.svg").write_text(picture)
    yield "![Processor time of the stages over that of bare chains](benchmarks-chain.svg)\n"
    label = "model, stages"
    cpu = [label, "ours, ms", "MQTT, ms", "TCP, ms", "ours / MQTT", "ours / TCP"]
    yield "Processor time an inference:\n"
    yield from _table(cpu, [_chain_row(run, "cpu_ms", "cpu", 2) for run in document["runs"]])
    yield "Throughput:\n"
    rate = [label, "ours, /s", "MQTT, /s", "TCP, /s", "ours / MQTT", "ours / TCP"]
    yield from _table(rate, [_chain_row(run, "per_s", "throughput", 1) for run in document["runs"]])
    yield _measured_on(document, "chain.py")


def _chain_row(run: dict[str, Any], figure: str, ratio: str, digits: int) -> list[str]:
    return [
        f"{run['model']}, {run['stages']}",
        *(_spread(run[side][figure], digits) for side in ("ours", "mqtt", "tcp")),
        *(_spread(run[f"{ratio}_ratio_to_{side}"]) for side in ("mqtt", "tcp")),
    ]


# Clients, memory, start, death


def _many_clients(document: dict[str, Any]) -> Iterator[str]:
    yield "## Several clients on one board\n"
    yield f"A request computes for about {document['invoke_ms']:g} ms. Each client has its default window.\n"
    fair, stopped, hundred = (document.get(key) for key in ("fair", "stopped", "hundred"))
    rows = []
    if fair:
        rows.append(
            ["four clients: least share of a fair share", f"{_SHARE_GOAL}", f"{fair['least']:.2f}"]
        )
    if stopped:
        rows += [
            [f"three clients beside a {way} one, over three alone", "1", _spread(found)]
            for way, found in stopped["ratio"].items()
        ]
    if hundred:
        answered = f"{hundred['answered']:,} of {hundred['requests']:,}"
        longest = f"{(hundred['longest_ms'] or 0) / 1000:.1f} s"
        rows.append([f"{hundred['clients']} clients: requests answered", "all", answered])
        rows.append([f"{hundred['clients']} clients: longest latency", "", longest])
    yield from _table(["", "goal", "measured"], rows)
    yield _measured_on(document, "many_clients.py")


_SCENARIOS = {
    "full": "full load",
    "unread": "full load, and a client that sends and never reads",
    "paused": "full load, and a `Pipeline` whose caller stops",
    "shaped": "board behind a link of 1 Mbit/s",
    "flooded": "board behind a link of 1 Mbit/s, and a client without a window",
}


def _flat_memory(document: dict[str, Any]) -> Iterator[str]:
    runs = document["runs"]
    yield "## Memory over many requests\n"
    yield (
        f"{document['requests']:,} requests of {svg.size(document['size_bytes'])} at full load; behind "
        "the slow link, as many as pass in the given time. Growth is from the end of the warm-up, the "
        f"first fifth, to the end. Goal: at most {_GROWTH_GOAL_MB:g} MB.\n"
    )
    panels = {name: _lines(run) for name, run in runs.items()}
    picture = line_panels("Resident memory over time", "MB above the end of the warm-up", panels)
    (_DOCS / "benchmarks-memory.svg").write_text(picture)
    yield "![Resident memory over time](benchmarks-memory.svg)\n"
    head = ["", "results", "errors", "agent, MB", "growth", "client, MB", "growth"]
    rows = []
    for name, run in runs.items():
        row = [_SCENARIOS[name], f"{run['results']:,}", f"{run['errors']:,}"]
        for process in ("agent", "client", "broker"):
            row += [f"{run['end_mb'][process]:.1f}", f"{run['growth_mb'][process]:+.2f}"]
        rows.append(row)
    yield from _table([*head, "broker, MB", "growth"], rows)
    yield _measured_on(document, "flat_memory.py")


def _lines(run: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Return each process's memory since the warm-up, over the share of the time."""
    seconds = run["seconds"]
    warm = len(seconds) // 5
    span = max(seconds[-1] - seconds[warm], 0.01)
    return {
        process: [
            ((second - seconds[warm]) / span, value - values[warm])
            for second, value in zip(seconds[warm:], values[warm:], strict=False)
        ]
        for process, values in run["mb"].items()
    }


def _agent_start(document: dict[str, Any]) -> Iterator[str]:
    yield "## Start, memory and deployment\n"
    model = document["model"]
    rows = [
        ["start to `online`", _spread(document["online_ms"], 0) + " ms"],
        ["Python, numpy and the runtime alone", _spread(document["import_ms"], 0) + " ms"],
        [
            f"start to the first result of a saved {model}",
            _spread(document["serving_ms"], 0) + " ms",
        ],
        ["memory without a deployment", _spread(document["idle_mb"], 1) + " MB"],
        [f"memory with {model}", _spread(document["agent_mb"], 1) + " MB"],
        [
            "a bare interpreter with the same file",
            _spread(document["bare_mb"], 1) + " MB",
        ],
        ["memory over the bare interpreter's", _spread(document["memory_ratio"])],
        [
            f"deploying {document['stages']} stages, {document['size_bytes'] / 1e6:.1f} MB",
            _spread(document["deploy_s"]) + " s",
        ],
    ]
    yield from _table(["", "measured"], rows)
    yield _measured_on(document, "agent_start.py")


def _death_of_replica(document: dict[str, Any]) -> Iterator[str]:
    yield "## Death of a replica\n"
    yield (
        "Two replicas serve a stream; an agent is killed by SIGKILL and started again some seconds "
        "later.\n"
    )
    latency = f"at most {_LATENCY_GOAL_MS:,.0f} ms"
    usual = _spread(document["usual_ms"], 0) + " ms"
    rows = [
        ["deaths", "", f"{len(document['rounds'])}"],
        ["latency before a death", "", usual],
        ["longest latency after a death", latency, f"{document['worst_ms']:,.0f} ms"],
        ["errors", "0", f"{len(document['errors'])}"],
    ]
    # Without routes the broker picks the board, and no topic shows which.
    if document["sent_by_route"]:
        away = f"{document['sent_while_away']}"
        rows.append(["requests sent to a board between `offline` and `online`", "0", away])
    yield from _table(["", "goal", "measured"], rows)
    yield _measured_on(document, "death_of_replica.py")


_SECTIONS = {
    "round-trip": _round_trip,
    "chain": _chain,
    "many-clients": _many_clients,
    "flat-memory": _flat_memory,
    "agent-start": _agent_start,
    "death-of-replica": _death_of_replica,
}


def main() -> None:
    """Write the document and its plots."""
    lines = [_HEAD]
    for name, write in _SECTIONS.items():
        if (document := _read(name)) is not None:
            lines += write(document)
    lines.append(
        "Pipelines of emulated boards, against the plans' bounds and against boards alone, are in "
        "[planning.md](planning.md)."
    )
    (_DOCS / "benchmarks.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
