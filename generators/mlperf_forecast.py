"""The cost model's forecast of MLPerf's times on a Raspberry Pi 4, from counted operators.

Every third model of the file, in the file's order from the first, is fitted; the other models are
forecast.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mlperf_models import split_name

from edge_partition.planning.cost_model import invoke_ms
from edge_partition.planning.fleet import PRESETS
from edge_partition.planning.least_squares import fit_relative
from edge_partition.planning.operator_work import work_terms
from edge_partition.tflite.graph import Graph, Operator, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OPERATORS = Path(__file__).parents[1] / "docs" / "measured" / "mlperf-operators.json"
BOARD = PRESETS["raspberry-pi-4"]
#: XNNPACK's times of a 64-bit Raspberry Pi 4, in milliseconds, by MLPerf's name of
#: the model (github.com/google/XNNPACK, README, 8 February 2022).
XNNPACK_MS = {
    "mobilenet-v1-1.0-224-non-quantized": 77,
    "mobilenet-v2-1.0-224-non-quantized": 46,
    "mobilenet-v3-large_224_1.0_float": 40,
    "mobilenet-v3-small_224_1.0_float": 15,
    "mobilenet-v1-1.0-224-quantized": 24,
    "mobilenet-v2-1.0-224-quantized": 17,
}
_ONE_IN = 3
_ITEM_SIZES = {"float32": 4, "int8": 1, "uint8": 1}
_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class MeasuredModel:
    """A model with its published time.

    Attributes:
        name: The name in MLPerf's results.
        measured_ms: Published time of an inference, in milliseconds.
        watts: Published power of the board, in watts.
        is_fitted: Whether the cost model was fitted to this model.
        graph: The model's operators. Its tensors have no more than the cost model reads.
    """

    name: str
    measured_ms: float
    watts: float
    is_fitted: bool
    graph: Graph

    @property
    def is_quantized(self) -> bool:
        """Whether the model is int8 or uint8."""
        return split_name(self.name)[1]

    @functools.cached_property
    def forecast_ms(self) -> float:
        """The cost model's time of an inference on the board's preset, in milliseconds."""
        return invoke_ms(self.graph, BOARD, 0, len(self.graph.operators))

    @property
    def error(self) -> float:
        """The forecast's relative error."""
        return self.forecast_ms / self.measured_ms - 1

    @property
    def measured_j(self) -> float:
        """Energy of an inference above the preset's idle power, in joules."""
        return (self.watts - (BOARD.idle_watts or 0)) * self.measured_ms / 1000

    @property
    def forecast_j(self) -> float:
        """The forecast of :attr:`measured_j`, from the preset's power and the forecast time."""
        return (BOARD.watts_above_idle or 0) * self.forecast_ms / 1000


def read_models(*, first_fitted: int = 0) -> list[MeasuredModel]:
    """Return the models of the file.

    Args:
        first_fitted: Position of the first fitted model.
    """
    return [
        MeasuredModel(
            found["name"],
            found["measured_ms"],
            found["watts"],
            position % _ONE_IN == first_fitted,
            _graph(found["name"], found["operators"]),
        )
        for position, found in enumerate(json.loads(OPERATORS.read_text()))
    ]


def fit_speed(models: Sequence[MeasuredModel]) -> tuple[float, float, float]:
    """Return the speed, and the work of a written byte and of an operator, that fit the times best.

    Args:
        models: Models of one quantization.

    Returns:
        The speed in 10^9 units per second, and the other two in units.
    """
    terms = np.array([_term_sums(model) for model in models])
    times_ns = np.array([model.measured_ms * _NS_PER_MS for model in models])
    unit_ns, byte_ns, operator_ns = fit_relative(terms, times_ns, np.ones(len(models)))
    return float(1 / unit_ns), float(byte_ns / unit_ns), float(operator_ns / unit_ns)


def errors_if_fitted(first_fitted: int) -> list[float]:
    """Return the relative errors of the models that are forecast if another third is fitted."""
    models = read_models(first_fitted=first_fitted)
    errors = []
    for is_quantized in (False, True):
        alike = [model for model in models if model.is_quantized == is_quantized]
        speed, *units = fit_speed([model for model in alike if model.is_fitted])
        for model in alike:
            work = np.array(_term_sums(model)) @ [1.0, *units]
            if not model.is_fitted:
                errors.append(work / speed / _NS_PER_MS / model.measured_ms - 1)
    return errors


def median_and_worst(errors: Sequence[float]) -> tuple[float, float]:
    """Return the median and the largest of the errors without their signs."""
    sizes = [abs(error) for error in errors]
    return statistics.median(sizes), max(sizes)


def _term_sums(model: MeasuredModel) -> tuple[float, float, float]:
    terms = [work_terms(model.graph, index) for index in range(len(model.graph.operators))]
    return (
        sum(term.compute_macs for term in terms if term.is_quantized == model.is_quantized),
        sum(term.written_bytes for term in terms if term.is_quantized == model.is_quantized),
        sum(term.is_quantized == model.is_quantized for term in terms),
    )


def _graph(name: str, rows: Sequence[Sequence[object]]) -> Graph:
    """Return a graph with the counted operators, each with its own input and output."""
    tensors: list[Tensor] = []
    operators: list[Operator] = []

    def add(shape: tuple[int, ...], dtype: str) -> int:
        size_bytes = math.prod(shape) * _ITEM_SIZES[dtype]
        tensors.append(Tensor(len(tensors), f"tensor-{len(tensors)}", dtype, shape, size_bytes))
        return len(tensors) - 1

    for kind, macs, weight_bytes, channels, shape, dtype in _expanded(rows):
        given, made = add((1, channels), dtype), add((1, *shape), dtype)
        operators.append(
            Operator(len(operators), kind, (given,), (made,), macs, weight_bytes, (), kind)
        )
    ends = (0,), (len(tensors) - 1,)
    return Graph(name, tuple(tensors), tuple(operators), *ends, cuts=())


def _expanded(
    rows: Sequence[Sequence[object]],
) -> Iterator[tuple[str, int, int, int, tuple[int, ...], str]]:
    for count, *figures in rows:
        for _ in range(count):  # type: ignore[call-overload]
            yield tuple(figures)  # type: ignore[misc]
