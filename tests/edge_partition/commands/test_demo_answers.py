"""The demo's comparison of the boards' outputs with the whole model's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edge_partition.commands._demo_answers import (
    Comparison,
    DemoError,
    Reference,
    check,
    compare,
)

OUTPUTS = tuple(np.float32(value).tobytes() for value in (1.0, 2.0))


def reference(*, is_constant: bool = False) -> Reference:
    return Reference((), (b"a", b"b"), OUTPUTS, is_constant)


def result(value: float) -> SimpleNamespace:
    return SimpleNamespace(outputs={"y": np.array([value], np.float32)})


def manifest() -> SimpleNamespace:
    return SimpleNamespace(outputs=(SimpleNamespace(name="y", dtype="float32", shape=(1,)),))


def test_equal_bits_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edge_partition.commands._demo_answers.encode_tensors",
        lambda _specs, outputs: outputs["y"].tobytes(),
    )
    both = compare(reference(), [result(1), result(2)], manifest())  # type: ignore[arg-type,list-item]
    assert both == Comparison(2, 2, ())
    assert both.accuracy is None
    one = compare(reference(), [result(1), result(3)], manifest())  # type: ignore[arg-type,list-item]
    assert one.identical == 1


def test_the_accuracy_is_the_share_of_right_labels() -> None:
    assert Comparison(4, 4, (True, True, False, True)).accuracy == 0.75


def test_equal_outputs_for_all_inputs_prove_nothing() -> None:
    with pytest.raises(DemoError, match="prove nothing"):
        check(reference(is_constant=True), Comparison(2, 2, ()))


def test_a_difference_is_an_error_with_the_number() -> None:
    with pytest.raises(DemoError, match="1 of 2 answers differ"):
        check(reference(), Comparison(2, 1, ()))
    check(reference(), Comparison(2, 2, ()))
