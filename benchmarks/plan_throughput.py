"""Compare the best plan with single boards and with simpler splits, on emulated boards.

    sudo python benchmarks/plan_throughput.py MobileNetV3Large --json

The compared plans take turns on the same boards, one deployment at a time, so other programs on the
machine affect all plans. Each figure is the median of the rounds, with the lowest and the highest
value. There are four comparisons:

- pipelines of two, three and four equal boards against the throughput that each plan predicts with
  times of its stages from the same minute;
- four equal boards against one of them with the whole model;
- three boards with the speeds 1 : 2 : 4 against the sum of the single boards, each with the whole
  model;
- on the same boards, the best plan against a split into parts of equal operator counts and a split
  into parts of equal weights, each with the boards in the best order for the split.

The plan ``best`` may have replicas. The plan ``pipeline`` has one stage on each board, as if no
board could hold the whole model.

The benchmark prints each measured ratio with the ratio that the plans predict from the boards'
profiles. Links are as fast as loopback, because slower links would limit all plans equally. The
client chooses its window by itself. The figures are stored in
``docs/measured/throughput-MODEL-KIND.json``. A model takes about 12 minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import TYPE_CHECKING

import emulated_fleet as emulation
import numpy as np

from edge_partition.planning.fleet import Fleet
from edge_partition.planning.plan_split import plan_split

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_partition.emulation.desk_fleet import DeskFleet
    from edge_partition.planning.plan_split import Plan
    from edge_partition.tflite.graph import Graph
    from edge_partition.tflite.read_tflite import TfliteModel

#: Each board's share of one processor. plan_accuracy.py says why the shares are small.
EQUAL = (0.12, 0.12, 0.12, 0.12)
UNEQUAL = (0.08, 0.16, 0.32)
#: Numbers of boards of the pipelines, one stage on each board.
PIPELINES = (2, 3, 4)


def run_in_turns(
    plans: dict[str, Plan], model: TfliteModel, desk: DeskFleet, rounds: int, seconds: float
) -> dict[str, dict[str, object]]:
    """Deploy the plans in turns, stream requests through each, and return each plan's figures."""
    measured: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(rounds):
        for name, plan in plans.items():
            with emulation.deployed(plan, model, desk):
                run = emulation.stream(desk, seconds)
            measured[name].append(run.throughput_per_s)
    return {
        name: {
            "boards": [[device.name for device in stage.devices] for stage in plan.stages],
            "cuts": list(plan.cuts),
            "predicted_per_s": plan.throughput_per_s,
            "per_s": statistics.median(measured[name]),
            "lowest_per_s": min(measured[name]),
            "highest_per_s": max(measured[name]),
            "runs_per_s": measured[name],
        }
        for name, plan in plans.items()
    }


def ratio(runs: dict, above: str, below: list[str]) -> dict[str, float]:
    """Return the throughput of plan ``above``, divided by the summed throughputs of ``below``.

    Returns:
        The measured ratio (``reached``: median of the rounds, ``lowest``, ``highest``), and the
        ratio of the predicted throughputs (``bound``).
    """
    turns = [
        runs[above]["runs_per_s"][turn] / sum(runs[name]["runs_per_s"][turn] for name in below)
        for turn in range(len(runs[above]["runs_per_s"]))
    ]
    predicted = [runs[name]["predicted_per_s"] for name in below]
    return {
        "reached": statistics.median(turns),
        "lowest": min(turns),
        "highest": max(turns),
        "bound": runs[above]["predicted_per_s"] / sum(predicted),
    }


def measure_pipelines(
    model: TfliteModel, faster: float, rounds: int, seconds: float
) -> dict[str, object]:
    shares = [faster * share for share in EQUAL]
    fleet = emulation.boards_of(shares)

    def plans_of(boards: Fleet) -> dict[str, Plan]:
        return {
            f"{count}-boards": plan_split(
                model.graph, Fleet(boards.devices[:count]), "throughput", stages=count
            )
            for count in PIPELINES
        }

    with emulation.emulated(fleet) as desk:
        fleet = emulation.measured(
            fleet, model, desk, lambda boards, _model: plans_of(boards).values()
        )
        plans = plans_of(fleet)
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in plans}
        for _ in range(rounds):
            for name, plan in plans.items():
                runs[name].append(run_pipeline(plan, model, desk, seconds))
    return {
        "shares": shares,
        "pipelines": {
            name: {
                "boards": [[device.name for device in stage.devices] for stage in plan.stages],
                "cuts": list(plan.cuts),
                "predicted_per_s": plan.throughput_per_s,
                "runs": runs[name],
            }
            for name, plan in plans.items()
        },
    }


def run_pipeline(
    plan: Plan, model: TfliteModel, desk: DeskFleet, seconds: float
) -> dict[str, float]:
    """Stream through a pipeline, between two timings of its stages by the boards.

    Other work on the machine changes the boards' speed from minute to minute. The stream's
    throughput is therefore compared with a plan that has the mean of the two timings.

    Returns:
        Inferences a second: ``per_s`` of the stream, ``bound_per_s`` of the plan.
    """
    bounds = [emulation.timed_again(plan, model, desk).throughput_per_s]
    with emulation.deployed(plan, model, desk):
        per_s = emulation.stream(desk, seconds).throughput_per_s
    bounds.append(emulation.timed_again(plan, model, desk).throughput_per_s)
    return {"per_s": per_s, "bound_per_s": statistics.harmonic_mean(bounds)}


def measure_equal(
    model: TfliteModel, faster: float, rounds: int, seconds: float
) -> dict[str, object]:
    def plans_of(boards: Fleet) -> dict[str, Plan]:
        alone = Fleet(boards.devices[:1])
        return {
            "best": plan_split(model.graph, boards, "throughput"),
            "pipeline": plan_split(model.graph, boards, "throughput", stages=len(EQUAL)),
            "alone": plan_split(model.graph, alone, "throughput"),
        }

    shares = [faster * share for share in EQUAL]
    runs = measure_plans(model, shares, plans_of, rounds, seconds)
    return {
        "shares": shares,
        "runs": runs,
        "ratio": ratio(runs, "best", ["alone"]),
        "ratio_of_pipeline": ratio(runs, "pipeline", ["alone"]),
    }


def measure_sum(
    model: TfliteModel, faster: float, rounds: int, seconds: float
) -> dict[str, object]:
    """Compare the best plan with the sum of the single boards only, which takes half the time."""

    def plans_of(boards: Fleet) -> dict[str, Plan]:
        best = plan_split(model.graph, boards, "throughput")
        return {"best": best, **_alone(model.graph, boards)}

    shares = [faster * share for share in UNEQUAL]
    runs = measure_plans(model, shares, plans_of, rounds, seconds)
    return {
        "shares": shares,
        "runs": runs,
        "ratio": ratio(runs, "best", _names_alone(runs)),
    }


def _names_alone(runs: dict) -> list[str]:
    return [name for name in runs if name.startswith("alone-")]


def _alone(graph: Graph, boards: Fleet) -> dict[str, Plan]:
    return {
        f"alone-{index}": plan_split(graph, Fleet((device,)), "throughput")
        for index, device in enumerate(boards.devices)
    }


def measure_unequal(
    model: TfliteModel, faster: float, rounds: int, seconds: float
) -> dict[str, object]:
    graph, count = model.graph, len(UNEQUAL)

    def plans_of(boards: Fleet) -> dict[str, Plan]:
        return {
            "best": plan_split(graph, boards, "throughput"),
            "pipeline": plan_split(graph, boards, "throughput", stages=count),
            "equal-operators": plan_split(graph, boards, cuts=equal_operator_cuts(graph, count)),
            "equal-weights": plan_split(graph, boards, cuts=equal_weight_cuts(graph, count)),
            **_alone(graph, boards),
        }

    shares = [faster * share for share in UNEQUAL]
    runs = measure_plans(model, shares, plans_of, rounds, seconds)
    return {
        "shares": shares,
        "runs": runs,
        "ratio": ratio(runs, "best", _names_alone(runs)),
        "ratio_of_pipeline": ratio(runs, "pipeline", _names_alone(runs)),
        "ratio_to_equal_operators": ratio(runs, "best", ["equal-operators"]),
        "ratio_to_equal_weights": ratio(runs, "best", ["equal-weights"]),
    }


def measure_plans(
    model: TfliteModel,
    shares: list[float],
    plans_of: Callable[[Fleet], dict[str, Plan]],
    rounds: int,
    seconds: float,
) -> dict[str, dict[str, object]]:
    """Profile the model on boards with these shares, run the plans in turns, return the figures."""
    fleet = emulation.boards_of(shares)
    with emulation.emulated(fleet) as desk:
        fleet = emulation.measured(
            fleet, model, desk, lambda boards, _model: plans_of(boards).values()
        )
        return run_in_turns(plans_of(fleet), model, desk, rounds, seconds)


def equal_operator_cuts(graph: Graph, parts: int) -> list[int]:
    return _nearest_cuts(graph, np.arange(len(graph.operators) + 1), parts)


def equal_weight_cuts(graph: Graph, parts: int) -> list[int]:
    before = [graph.weight_bytes(0, position) for position in range(len(graph.operators) + 1)]
    return _nearest_cuts(graph, np.array(before), parts)


def _nearest_cuts(graph: Graph, before: np.ndarray, parts: int) -> list[int]:
    """Return distinct cuts that divide a quantity into nearly equal parts.

    Args:
        graph: The model's graph, with n operators.
        before: Sum of the quantity over the operators before each position; shape ``(n + 1,)``.
        parts: Number of parts.
    """
    cuts: list[int] = []
    for number in range(1, parts):
        free = [cut for cut in graph.cuts if not cuts or cut > cuts[-1]]
        cuts.append(min(free, key=lambda cut: abs(before[cut] - before[-1] * number / parts)))
    return cuts


def show(name: str, kind: str, document: dict) -> None:
    print(f"{name}, {kind} boards of {', '.join(f'{share:g}' for share in document['shares'])}:")
    for label, pipeline in document.get("pipelines", {}).items():
        ratios = [run["per_s"] / run["bound_per_s"] for run in pipeline["runs"]]
        print(
            f"  {label:16} {statistics.median(run['per_s'] for run in pipeline['runs']):7.2f}/s, "
            f"{statistics.median(ratios):.2f} of its bound ({min(ratios):.2f} to "
            f"{max(ratios):.2f}, {len(ratios)} runs), predicted {pipeline['predicted_per_s']:.2f}, "
            f"cut at {pipeline['cuts']}"
        )
    for label, run in document.get("runs", {}).items():
        print(
            f"  {label:16} {run['per_s']:7.2f}/s ({run['lowest_per_s']:.2f} to "
            f"{run['highest_per_s']:.2f}, {len(run['runs_per_s'])} runs), predicted "
            f"{run['predicted_per_s']:.2f}, on {' > '.join(' | '.join(s) for s in run['boards'])}, "
            f"cut at {run['cuts']}"
        )
    for key, found in document.items():
        if key.startswith("ratio"):
            print(
                f"  {key}: {found['reached']:.2f} ({found['lowest']:.2f} to "
                f"{found['highest']:.2f}), predicted {found['bound']:.2f}"
            )
    sys.stdout.flush()


_MEASURES = {
    "pipelines": measure_pipelines,
    "equal": measure_equal,
    "unequal": measure_unequal,
    "sum": measure_sum,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="Keras application")
    parser.add_argument("--rounds", type=int, default=5, help="number of runs of each plan")
    parser.add_argument(
        "--seconds", type=float, default=8, help="length of each stream, in seconds"
    )
    parser.add_argument(
        "--faster",
        type=float,
        default=1,
        metavar="X",
        help="factor of the boards' processor shares",
    )
    parser.add_argument("--only", choices=tuple(_MEASURES), help="run only this comparison")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    documents = {}
    for name in options.models:
        model = emulation.load(name)
        machine = emulation.machine()
        documents[name] = {"machine": machine}
        for kind, measure in _MEASURES.items():
            # The comparison `unequal` includes the comparison `sum`.
            if options.only == kind or (options.only is None and kind != "sum"):
                documents[name][kind] = measure(
                    model, options.faster, options.rounds, options.seconds
                )
                found = {"machine": machine, kind: documents[name][kind]}
                emulation.keep(f"throughput-{name}-{kind}", found)
                if not options.json:
                    show(name, kind, documents[name][kind])
    if options.json:
        json.dump(documents, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
