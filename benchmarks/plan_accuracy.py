"""Predicted against measured: stage times, memory and throughput of plans on emulated boards.

    sudo python benchmarks/plan_accuracy.py MobileNetV3Large EfficientNetV2B0 ResNet50 --json

For each model and 2, 3 and 4 unequal boards: the boards measure the model, and the best plan for
throughput is deployed. Then, in turns, the boards time their stages again, as ``profile`` does, and
requests are streamed through, first one at a time, then four in flight a stage. What is compared:

- a stage's inference: predicted, against the results' traces of lone requests. At full load a
  trace's wall time contains messages that the processor dealt with meanwhile;
- a stage's whole time, messages included: predicted, against the processor time that its agent took
  for a request at full load, over its share. A machine that is busy with other things changes this
  least;
- a stage's memory: predicted, against the agent's resident memory at the end of the streams; the
  agent's own word right after loading stands beside it;
- throughput and latency: predicted, against the steady part of the streams.

A machine shared with others is up to a third faster or slower from one ten seconds to the next:
one prediction against one stream tells mostly that. Each turn's streams are held against what the
stages' times of the same turn predict, and the median of the turns is the error of the prediction;
the plan's own, from the profile made minutes before, stands beside it.

Figures are also kept in ``docs/measured/accuracy-MODEL.json``. Takes 10 minutes a model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import TYPE_CHECKING, Any

import emulated_fleet as emulation

from edge_partition.planning.plan_split import plan_split

if TYPE_CHECKING:
    from emulated_fleet import Streamed

    from edge_partition.planning.fleet import Fleet
    from edge_partition.planning.plan import Plan
    from edge_partition.tflite.read_tflite import TfliteModel

#: Of one processor of this machine each. Little, for broker and client share it, as they would not
#: on a desk: boards of a whole processor together answered 200 requests a second, and the messages
#: of those pushed the boards' work out of the caches (20 % more processor time a request). Not too
#: little: the kernel gives shares out by the millisecond, and a stage of less than that waits for
#: the next one rather than be slow. Where a model answers few requests, boards may be faster.
SHARES = {2: (0.3, 0.2), 3: (0.24, 0.18, 0.12), 4: (0.2, 0.16, 0.12, 0.1)}
_WINDOW_PER_STAGE = 4


def measure(
    model: TfliteModel, shares: tuple[float, ...], turns: int, seconds: float
) -> dict[str, object]:
    fleet = emulation.boards_of(shares)
    with emulation.emulated(fleet) as desk:

        def best(boards: Fleet, model: TfliteModel) -> list[Plan]:
            return [plan_split(model.graph, boards, "throughput", stages=len(shares))]

        fleet = emulation.measured(fleet, model, desk, best)
        (plan,) = best(fleet, model)
        runs = []
        with emulation.deployed(plan, model, desk) as loaded:
            for _ in range(turns):
                now = emulation.timed_again(plan, model, desk)
                lone = emulation.stream(desk, seconds, window=1)
                full = emulation.stream(desk, seconds, window=_WINDOW_PER_STAGE * len(shares))
                runs.append(_turn(now, lone, full))
            agents = emulation.agent_processes()
            resident = {name: agent.memory_info().rss for name, agent in agents.items()}
    stages = []
    for index, stage in enumerate(plan.stages):
        device = stage.devices[0]
        stages.append(
            {
                "device": device.name,
                "share": device.speed_gmac_s,
                "operators": [stage.start, stage.stop],
                "invoke_ms": _compared(stage.cost.invoke_ms, [r["invoke_ms"][index] for r in runs]),
                "busy_ms": _compared(stage.cost.busy_ms, [r["busy_ms"][index] for r in runs]),
                "handling_ms": stage.cost.handling_ms,
                "predicted_ram_bytes": stage.cost.ram_bytes,
                "loaded_ram_bytes": loaded[index].ram_bytes,
                "ram_bytes": resident[device.name],
            }
        )
    return {
        "shares": shares,
        "stages": stages,
        "throughput_per_s": _compared(
            plan.throughput_per_s, [run["throughput_per_s"] for run in runs]
        ),
        "latency_ms": _compared(plan.latency_ms, [run["latency_ms"] for run in runs]),
    }


def _turn(now: Plan, lone: Streamed, full: Streamed) -> dict[str, Any]:
    """Return (predicted by the stages' times of this turn, measured in it) of each figure."""
    stages = list(enumerate(now.stages))
    return {
        "invoke_ms": [(stage.cost.invoke_ms, lone.invoke_ms(index)) for index, stage in stages],
        "busy_ms": [
            (
                stage.cost.busy_ms,
                full.cpu_ms[stage.devices[0].name] / stage.devices[0].speed_gmac_s,
            )
            for _, stage in stages
        ],
        "throughput_per_s": (now.throughput_per_s, full.throughput_per_s),
        "latency_ms": (now.latency_ms, lone.latency_ms()),
    }


def _compared(planned: float, turns: list[tuple[float, float]]) -> dict[str, float]:
    """Return the medians of the turns and how far off the predictions were."""
    errors = [predicted / measured - 1 for predicted, measured in turns]
    measured = statistics.median(measured for _, measured in turns)
    return {
        "planned": planned,
        "predicted": statistics.median(predicted for predicted, _ in turns),
        "measured": measured,
        "lowest": min(measured for _, measured in turns),
        "highest": max(measured for _, measured in turns),
        "error": statistics.median(errors),
        "least_error": min(errors),
        "most_error": max(errors),
        "planned_error": planned / measured - 1,
    }


def show(name: str, run: dict) -> None:
    print(f"{name} on {len(run['shares'])}:")
    print(f"  requests/s {_told(run['throughput_per_s'])}")
    print(f"  latency, ms {_told(run['latency_ms'])}")
    for stage in run["stages"]:
        mib, predicted_mib, loaded_mib = (
            stage[key] / emulation.MIB
            for key in ("ram_bytes", "predicted_ram_bytes", "loaded_ram_bytes")
        )
        print(
            f"  {stage['device']} ({stage['share']:g}) {stage['operators']}:\n"
            f"    invoke, ms {_told(stage['invoke_ms'])}\n"
            f"    busy, ms {_told(stage['busy_ms'])}\n"
            f"    {mib:.1f} MiB (loaded {loaded_mib:.1f}), predicted {predicted_mib:.1f} "
            f"({predicted_mib / mib - 1:+.1%})",
            flush=True,
        )


def _told(found: dict[str, float]) -> str:
    return (
        f"{found['measured']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f}), predicted in "
        f"turn {found['predicted']:.2f} ({found['error']:+.1%}; {found['least_error']:+.1%} to "
        f"{found['most_error']:+.1%}), planned {found['planned']:.2f} "
        f"({found['planned_error']:+.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="Keras application")
    parser.add_argument("--boards", type=int, nargs="+", default=sorted(SHARES), metavar="N")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4, help="of each stream")
    parser.add_argument(
        "--faster", type=float, default=1, metavar="X", help="boards of X times the shares"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    document = {}
    for name in options.models:
        model = emulation.load(name)
        runs = []
        for count in options.boards:
            shares = tuple(round(options.faster * share, 3) for share in SHARES[count])
            runs.append(measure(model, shares, options.turns, options.seconds))
            if not options.json:
                show(name, runs[-1])
        document[name] = {
            "machine": emulation.machine(),
            "turns": options.turns,
            "runs": runs,
        }
        emulation.keep(f"accuracy-{name}", document[name])
    if options.json:
        json.dump(document, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
