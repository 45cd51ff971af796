"""Write docs/measured/mlperf-operators.json: times of MLPerf's models and their operators.

    python generators/count_mlperf_operators.py TIMES.csv

TIMES.csv has a row for each model: name, milliseconds and watts. Each model is rebuilt
(mlperf_models.py) with seeded weights and converted as `edge-partition split` does; int8 is
calibrated with random inputs. A model takes 2 to 10 s.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlperf_forecast import OPERATORS
from mlperf_models import build, split_name

from edge_partition.model.convert_tflite import convert_tflite, freeze_model
from edge_partition.model.seeded_weights import seed_weights
from edge_partition.model.wrap_operations import wrap_operations
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from edge_partition.tflite.graph import Graph, Operator

_EXAMPLES = 2


def convert(name: str) -> Graph:
    """Return the graph of the model that MLPerf calls ``name``."""
    network, is_quantized = split_name(name)
    model = build(network)
    seed_weights(model)
    frozen = freeze_model(wrap_operations(model))
    if not is_quantized:
        return read_tflite(convert_tflite(frozen), name=name).graph
    rng = np.random.default_rng(0)
    shape = (1, *model.inputs[0].shape[1:])
    examples = [[rng.uniform(-1, 1, shape).astype(np.float32)] for _ in range(_EXAMPLES)]
    content = convert_tflite(frozen, quantization="int8", calibration=examples)
    return read_tflite(content, name=name).graph


def count_operators(graph: Graph) -> list[list[Any]]:
    """Return a row for each kind of equal operators, in the form of ``mlperf_forecast``."""
    counted = Counter(_figures(graph, operator) for operator in graph.operators)
    return [[count, *figures] for figures, count in counted.items()]


def _figures(graph: Graph, operator: Operator) -> tuple[Any, ...]:
    given, made = (graph.tensors[ends[0]] for ends in (operator.inputs, operator.outputs))
    shape = made.shape[1:]
    return operator.kind, operator.macs, operator.weight_bytes, given.shape[-1], shape, made.dtype


def main() -> None:
    """Count the operators of the models in the file that the argument names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("times", type=Path, help="names, milliseconds and watts, as CSV")
    rows = list(csv.reader(parser.parse_args().times.read_text().splitlines()))
    models = []
    for name, measured_ms, watts in rows:
        print(f"counting: {name}", file=sys.stderr, flush=True)
        models.append(
            {
                "name": name,
                "measured_ms": float(measured_ms),
                "watts": float(watts),
                "operators": count_operators(convert(name)),
            }
        )
    lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in models)
    OPERATORS.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
