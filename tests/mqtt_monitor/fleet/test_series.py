from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mqtt_monitor.fleet.series import Series


def test_gaps_stay_and_old_values_disappear() -> None:
    series = Series()
    series.add(1000.0, 1.0)
    series.add(1020.0, 2.0)
    assert series.points(1020.0)[-5:] == [
        (1000.0, 1.0), (1005.0, None), (1010.0, None), (1015.0, None), (1020.0, 2.0),
    ]  # fmt: skip
    series.add(1000.0 + 3600, 3.0)
    assert [value for _, value in series.points(4600.0) if value is not None] == [2.0, 3.0]


def test_a_clock_set_back_by_less_than_an_hour_loses_no_values() -> None:
    series = Series()
    series.add(10_000.0, 1.0)
    series.add(9_000.0, 2.0)
    assert [value for _, value in series.points(10_000.0) if value is not None] == [2.0, 1.0]
    series.add(100.0, 3.0)
    assert [value for _, value in series.points(100.0) if value is not None] == [3.0]


@given(
    st.lists(st.tuples(st.floats(0, 1e11), st.none() | st.floats(-1e18, 1e18)), max_size=20),
    st.floats(0, 1e11),
    st.sampled_from([5.0, 60.0, 300.0]),
)
def test_points_are_always_one_hour(
    values: list[tuple[float, float | None]], now_s: float, step_s: float
) -> None:
    series = Series()
    for time_s, value in values:
        series.add(time_s, value)
    points = series.points(now_s, step_s)
    assert len(points) == 3600 / step_s
    assert 0 <= now_s - points[-1][0] <= step_s
    assert all(value is None or math.isfinite(value) for _, value in points)
