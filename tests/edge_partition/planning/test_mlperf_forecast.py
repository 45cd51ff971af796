"""The cost model against MLPerf's times of 94 models on a Raspberry Pi 4."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from checkout import CHECKOUT

from edge_partition.planning.cost_model import invoke_ms
from edge_partition.planning.fleet import PRESETS
from edge_partition.planning.operator_work import FLOAT_COSTS, INT8_COSTS

sys.path.insert(0, str(CHECKOUT / "generators"))
import mlperf_forecast
from mlperf_models import split_name

MODELS = mlperf_forecast.read_models()
PI_4 = PRESETS["raspberry-pi-4"]
MEDIAN, WORST = 0.10, 0.25


def test_all_94_models_are_there_and_a_third_of_each_quantization_is_fitted() -> None:
    assert len({model.name for model in MODELS}) == len(MODELS) == 94
    assert [model.is_fitted for model in MODELS] == [index % 3 == 0 for index in range(94)]
    assert sum(model.is_quantized for model in MODELS) == 45
    assert sum(model.is_quantized and model.is_fitted for model in MODELS) == 16


def test_the_models_that_were_not_fitted_are_forecast_within_the_goals() -> None:
    errors = [model.error for model in MODELS if not model.is_fitted]
    median, worst = mlperf_forecast.median_and_worst(errors)
    assert median <= MEDIAN
    assert worst <= WORST


@pytest.mark.parametrize("first_fitted", [0, 1, 2])
def test_the_goals_hold_whichever_third_is_fitted(first_fitted: int) -> None:
    errors = mlperf_forecast.errors_if_fitted(first_fitted)
    assert len(errors) >= 62
    median, worst = mlperf_forecast.median_and_worst(errors)
    assert median <= MEDIAN
    assert worst <= WORST


@pytest.mark.parametrize("is_quantized", [False, True])
def test_the_presets_numbers_are_the_fit_to_the_fitted_third(*, is_quantized: bool) -> None:
    fitted = [model for model in MODELS if model.is_fitted and model.is_quantized == is_quantized]
    speed_gmac_s, written_byte, operator = mlperf_forecast.fit_speed(fitted)
    costs = INT8_COSTS if is_quantized else FLOAT_COSTS
    speedup = PI_4.int8_speedup if is_quantized else 1
    assert PI_4.speed_gmac_s * speedup == pytest.approx(speed_gmac_s, rel=0.005)
    assert costs.written_byte == pytest.approx(written_byte, rel=0.005)
    assert costs.operator == pytest.approx(operator, rel=0.005)


def test_int8_models_are_2_to_3_2_times_as_fast_as_float_and_not_with_one_speed_for_both() -> None:
    networks: dict[str, dict[bool, mlperf_forecast.MeasuredModel]] = {}
    for model in MODELS:
        networks.setdefault(split_name(model.name)[0], {})[model.is_quantized] = model
    pairs = [(pair[False], pair[True]) for pair in networks.values() if len(pair) == 2]
    assert len(pairs) >= 40
    for as_float, as_int8 in pairs:
        assert 2.0 <= as_float.forecast_ms / as_int8.forecast_ms <= 3.2
    one_speed = replace(PI_4, int8_speedup=1)
    worst = max(
        abs(
            invoke_ms(model.graph, one_speed, 0, len(model.graph.operators)) / model.measured_ms - 1
        )
        for _, model in pairs
    )
    assert worst > WORST
