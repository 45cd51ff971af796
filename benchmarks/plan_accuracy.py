"""Predicted against measured: stage times, memory and throughput of plans on emulated boards.

    sudo python benchmarks/plan_accuracy.py MobileNetV3Large EfficientNetV2B0 ResNet50 --json

For each model and 2, 3 and 4 unequal boards: the boards measure the model, the best plan for
throughput is deployed, and requests are streamed through it, first one at a time, then four in
flight a stage. What is compared:

- a stage's inference: predicted, against the results' traces of lone requests. At full load a
  trace's wall time contains messages that the processor dealt with meanwhile;
- a stage's whole time, messages included: predicted, against the processor time that its agent took
  for a request at full load, over its share. A machine that is busy with other things changes this
  least;
- a stage's memory: predicted, against the agent's resident memory at the end of the stream; the
  agent's own word right after loading stands beside it;
- throughput: predicted, against the steady part of the stream at full load.

Figures are also kept in ``docs/.cache/planning/accuracy-MODEL.json``. Takes some 5 minutes a model.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

import emulated_fleet as emulation

from edge_partition.plan_split import plan_split

if TYPE_CHECKING:
    from edge_partition.read_tflite import TfliteModel

#: Of one processor of this machine each. Little, for broker and client share it, as they would not
#: on a desk: boards of a whole processor together answered 200 requests a second, and the messages
#: of those pushed the boards' work out of the caches (20 % more processor time a request). Not too
#: little: the kernel gives shares out by the millisecond, and a stage of less than that waits for
#: the next one rather than be slow.
SHARES = {2: (0.3, 0.2), 3: (0.24, 0.18, 0.12), 4: (0.2, 0.16, 0.12, 0.1)}
_WINDOW_PER_STAGE = 4


def measure(model: TfliteModel, shares: tuple[float, ...], seconds: float) -> dict[str, object]:
    fleet = emulation.boards_of(shares)
    with emulation.emulated(fleet) as desk:
        fleet = emulation.measured(fleet, model, desk)
        plan = plan_split(model.graph, fleet, "throughput", stages=len(shares))
        with emulation.deployed(plan, model, desk) as loaded:
            lone = emulation.stream(desk, seconds, window=1)
            full = emulation.stream(desk, seconds, window=_WINDOW_PER_STAGE * len(shares))
            agents = emulation.agent_processes()
            resident = {name: agent.memory_info().rss for name, agent in agents.items()}
    stages = [
        {
            "device": stage.devices[0].name,
            "share": shares[int(stage.devices[0].name[-1])],
            "operators": [stage.start, stage.stop],
            "predicted_invoke_ms": stage.cost.invoke_ms,
            "invoke_ms": lone.invoke_ms(index),
            "invoke_at_full_load_ms": full.invoke_ms(index),
            "predicted_busy_ms": stage.cost.busy_ms,
            "predicted_handling_ms": stage.cost.handling_ms,
            "predicted_link_ms": stage.cost.link_ms,
            "predicted_ram_bytes": stage.cost.ram_bytes,
            "loaded_ram_bytes": loaded[index].ram_bytes,
            "ram_bytes": resident[stage.devices[0].name],
            "busy_ms": full.cpu_ms[stage.devices[0].name] / stage.devices[0].speed_gmac_s,
            "cpu_share": full.cpu_share[stage.devices[0].name],
        }
        for index, stage in enumerate(plan.stages)
    ]
    return {
        "shares": shares,
        "stages": stages,
        "predicted_throughput_per_s": plan.throughput_per_s,
        "throughput_per_s": full.throughput_per_s,
        "predicted_latency_ms": plan.latency_ms,
        "latency_ms": lone.latency_ms(),
        "requests": [len(lone.results), len(full.results)],
    }


def show(name: str, run: dict) -> None:
    print(
        f"{name} on {len(run['shares'])}: "
        f"{run['throughput_per_s']:.2f} requests/s, predicted "
        f"{run['predicted_throughput_per_s']:.2f} ({_off(run, 'throughput_per_s')}); latency "
        f"{run['latency_ms']:.1f} ms, predicted {run['predicted_latency_ms']:.1f} "
        f"({_off(run, 'latency_ms')})"
    )
    for stage in run["stages"]:
        mib, predicted_mib = (
            stage[key] / emulation.MIB for key in ("ram_bytes", "predicted_ram_bytes")
        )
        print(
            f"  {stage['device']} ({stage['share']:g}) {stage['operators']}: invoke "
            f"{stage['invoke_ms']:.2f} ms, predicted {stage['predicted_invoke_ms']:.2f} "
            f"({_off(stage, 'invoke_ms')}), at full load {stage['invoke_at_full_load_ms']:.2f}, "
            f"busy {stage['busy_ms']:.2f}, predicted {stage['predicted_busy_ms']:.2f} "
            f"({_off(stage, 'busy_ms')}), {stage['cpu_share']:.3f} used; {mib:.1f} MiB (loaded "
            f"{stage['loaded_ram_bytes'] / emulation.MIB:.1f}), predicted {predicted_mib:.1f} "
            f"({_off(stage, 'ram_bytes')})",
            flush=True,
        )


def _off(row: dict, key: str) -> str:
    return f"{row[f'predicted_{key}'] / row[key] - 1:+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="Keras application")
    parser.add_argument("--boards", type=int, nargs="+", default=sorted(SHARES), metavar="N")
    parser.add_argument("--seconds", type=float, default=10, help="of each stream")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    document = {}
    for name in options.models:
        model = emulation.load(name)
        runs = []
        for count in options.boards:
            runs.append(measure(model, SHARES[count], options.seconds))
            if not options.json:
                show(name, runs[-1])
        document[name] = {"machine": emulation.machine(), "runs": runs}
        emulation.keep(f"accuracy-{name}", document[name])
    if options.json:
        json.dump(document, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
