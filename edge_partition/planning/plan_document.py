"""Make a plan's JSON document: the output of ``--json``, and ``plan.json`` in a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_partition.planning.fleet import Source
    from edge_partition.planning.plan import Plan

#: Name of the document's file in a bundle.
PLAN_FILE = "plan.json"


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return a plan as a JSON document, with times in ms, energies in joules, sizes in bytes."""
    return {
        "model": plan.graph_name,
        "objective": plan.objective,
        "wires": list(plan.wires),
        "latency_ms": plan.latency_ms,
        "throughput_per_s": plan.throughput_per_s,
        "bottleneck_ms": plan.bottleneck_ms,
        "energy_j": plan.energy_j,
        "bound_j" if plan.objective == "energy" else "bound_ms": plan.bound,
        "unused": [device.name for device in plan.unused],
        "source": plan_source(plan),
        "stages": [
            {
                "index": index,
                "devices": [device.name for device in stage.devices],
                "operators": [stage.start, stage.stop],
                "in_bytes": stage.cost.in_bytes,
                "out_bytes": stage.cost.out_bytes,
                "bottleneck_ms": stage.bottleneck_ms,
                "replicas": [
                    {
                        "device": device.name,
                        "invoke_ms": cost.invoke_ms,
                        "handling_ms": cost.handling_ms,
                        "busy_ms": cost.busy_ms,
                        "receive_ms": cost.receive_ms,
                        "send_ms": cost.send_ms,
                        "link_delay_ms": cost.link_delay_ms,
                        "energy_j": cost.energy_j,
                        "ram_bytes": cost.ram_bytes,
                        "storage_bytes": cost.storage_bytes,
                        "source": cost.invoke_source,
                        "handling_source": cost.handling_source,
                        "link_source": cost.link_source,
                        "memory_source": "estimated",
                    }
                    for device, cost in zip(stage.devices, stage.costs, strict=True)
                ],
            }
            for index, stage in enumerate(plan.stages)
        ],
    }


def plan_source(plan: Plan) -> Source:
    """Return ``measured`` if all times of the plan are measured, else ``estimated``."""
    sources = {
        source
        for stage in plan.stages
        for cost in stage.costs
        for source in (cost.invoke_source, cost.handling_source, cost.link_source)
    }
    return "measured" if sources == {"measured"} else "estimated"
