"""Make the messages of a simulated fleet of 500 boards and 50 deployments with ten stages each."""

from __future__ import annotations

import json

BOARDS, DEPLOYMENTS = 500, 50
STAGES = BOARDS // DEPLOYMENTS
PERIOD_S = 5.0
GENERATION = "0123456789ab"


def board_name(number: int) -> str:
    return f"board-{number:03}"


def stage_boards(deployment: int) -> list[str]:
    """Return the boards of a deployment, in the order of its stages."""
    return [board_name(deployment * STAGES + index) for index in range(STAGES)]


def profile(number: int) -> bytes:
    document = {
        "device": board_name(number),
        "instance": f"{number:032x}",
        "ram_mib": 128,
        "cores": 4,
        "runtime": "ai-edge-litert 2.1.6",
        "cpu_model": "Cortex-A72",
        "machine": "aarch64",
    }
    return json.dumps(document).encode()


def trace(number: int, sequence: int) -> bytes:
    """Return a client's trace of one request of a deployment."""
    stages = [
        {"stage": index, "device": board, "queue_ms": 1.5, "invoke_ms": 10.25 + sequence % 3}
        for index, board in enumerate(stage_boards(number))
    ]
    latency_ms = 5.0 + sum(stage["queue_ms"] + stage["invoke_ms"] for stage in stages)
    document = {
        "request": f"{number:08x}{sequence:08x}",
        "generation": GENERATION,
        "latency_ms": latency_ms,
        "trace": stages,
    }
    return json.dumps(document).encode()


def manifest(name: str, boards: list[str]) -> bytes:
    cut = {"name": "model/block/expand/Relu6;model/block/expand_BN/FusedBatchNormV3"}
    cuts = [[{**cut, "dtype": "float32", "shape": [1, 28, 28, 40]}]] * (len(boards) + 1)
    document = {
        "schema": 1,
        "deployment": name,
        "generation": GENERATION,
        "model": {
            "name": "MobileNetV3Large",
            "sha256": "0" * 64,
            "quantization": "none",
            "labels": [f"class {number}" for number in range(1000)],
        },
        "inputs": cuts[0],
        "outputs": cuts[-1],
        "stages": [
            {
                "index": index,
                "devices": [board],
                "file": f"stages/{index}.tflite",
                "sha256": "0" * 64,
                "size_bytes": 1_000_000,
                "inputs": cuts[index],
                "outputs": cuts[index + 1],
                "predicted": {"invoke_ms": 10.0, "ram_bytes": 60_000_000},
            }
            for index, board in enumerate(boards)
        ],
    }
    return json.dumps(document, indent=1).encode()


def stats(number: int, sequence: int, start_s: float) -> bytes:
    requests = 100 * sequence
    stage = {
        "deployment": f"net-{number // STAGES}",
        "generation": GENERATION,
        "stage": number % STAGES,
        "requests": requests,
        "errors": {},
        "unanswerable": 0,
        "queue_total_ms": 1.5 * requests,
        "invoke_total_ms": 10.25 * requests,
        "queue_ms": {"mean": 1.5, "max": 7.25, "count": 100},
        "invoke_ms": {"mean": 10.25, "max": 14.5, "count": 100},
    }
    document = {
        "device": board_name(number),
        "sequence": sequence,
        "period_s": PERIOD_S,
        "time_s": start_s + PERIOD_S * sequence,
        "uptime_s": PERIOD_S * sequence,
        "rss_bytes": 61_000_000,
        "free_memory_bytes": 300_000_000,
        "cpu_percent": 87.5,
        "temperature_c": 61.3,
        "clock_mhz": 1500.0,
        "throttled": False,
        "queue_length": 2,
        "stages": [stage],
    }
    return json.dumps(document, separators=(",", ":")).encode()
