"""Compare predicted and measured stage times, memory and throughput on emulated boards.

    sudo python benchmarks/plan_accuracy.py MobileNetV3Large EfficientNetV2B0 ResNet50 --json

For each model, and for 2, 3 and 4 unequal boards, the boards profile the model, and the best plan
for throughput is deployed. Then the benchmark runs several turns. In each turn, the boards time
their stages again, as ``profile`` does. Then a first stream sends one request at a time, and a
second stream keeps four requests in flight per stage. The benchmark compares these predictions with
these measurements:

- inference time of a stage: with the traces of the first stream. In the second stream, the time in
  a trace includes messages that the processor handles during the inference;
- whole time of a stage, messages included: with the agent's processor time per request in the
  second stream, divided by the board's share of a processor. Other programs on the machine change
  this figure least;
- memory of a stage: with the agent's resident memory after the streams. The resident memory right
  after loading is also stored;
- throughput and latency: with the steady part of the streams.

The speed of a shared machine varies by up to a third within ten seconds. This variation would
dominate the error of one prediction. So the streams of a turn are compared with the prediction from
the stage times of the same turn. The reported error is the median of the turns. The error of the
plan itself, which uses the profile from some minutes earlier, is also stored.

The figures are kept in ``docs/measured/accuracy-MODEL.json``. A model takes 10 minutes.
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

#: Each board's share of one processor, by number of boards. The shares are small, because the
#: broker and the client use the same machine. Boards whose shares add up to a whole processor
#: answered 200 requests per second. The messages of these requests displaced the boards' data from
#: the caches, which took 20 % more processor time per request. The shares are not smaller, because
#: the kernel assigns processor time in periods of a millisecond. A stage that takes less than a
#: millisecond would wait for the next period instead of running slowly. For a model with few
#: results per second, boards may be faster (``--faster``).
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
    """Return pairs of a predicted and a measured figure, by name of the figure."""
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
    """Return medians and extremes of the turns, and relative errors of the predictions.

    Args:
        planned: The figure of the plan, from the first profile.
        turns: For each turn, the figure predicted from the turn's stage times, and the measured
            figure.
    """
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
    print(f"{name} on {len(run['shares'])} boards:")
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
            f"    memory {mib:.1f} MiB (after loading {loaded_mib:.1f}), "
            f"predicted {predicted_mib:.1f} ({predicted_mib / mib - 1:+.1%})",
            flush=True,
        )


def _told(found: dict[str, float]) -> str:
    return (
        f"{found['measured']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f}), predicted in "
        f"the turn {found['predicted']:.2f} ({found['error']:+.1%}; {found['least_error']:+.1%} to "
        f"{found['most_error']:+.1%}), planned {found['planned']:.2f} "
        f"({found['planned_error']:+.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="Keras application")
    parser.add_argument(
        "--boards",
        type=int,
        nargs="+",
        default=sorted(SHARES),
        metavar="N",
        help="one or more numbers of boards",
    )
    parser.add_argument(
        "--turns", type=int, default=7, help="number of turns for each number of boards"
    )
    parser.add_argument(
        "--seconds", type=float, default=4, help="length of each stream, in seconds"
    )
    parser.add_argument(
        "--faster",
        type=float,
        default=1,
        metavar="X",
        help="factor of the boards' processor shares",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
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
