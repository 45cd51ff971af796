"""``docs/operations.md`` lists every operation of Keras, with up-to-date results."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT

from edge_partition.model.wrap_operations import keras

if TYPE_CHECKING:
    from types import ModuleType

GENERATORS = CHECKOUT / "generators"
ROW = re.compile(r"\| (\w+) \| ([^|]*) \| (yes|no) \| (yes|no) \| (yes|no) \| ([^|]*) \|")

#: One of each kind: elementwise, several tensors, lists, slices, several outputs, truth values,
#: integers, complex numbers, loops and branches with functions, images, operators that TFLite
#: lacks, outputs that differ, operations that Keras itself cannot run.
SAMPLE = (
    "Add", "AffineTransform", "Arange", "Argmax", "AssociativeScan", "BatchNorm", "Clip", "Cond",
    "Concatenate", "Conv", "DotProductAttention", "Einsum", "Erf", "Function", "GetItem",
    "LogicalAnd", "Map", "Ndim", "Norm", "Pad", "Polar", "Scan", "Split", "TopK", "Where",
    "WhileLoop", "ZerosLike",
)  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "operations", GENERATORS / "generate_operations.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, ...]]:
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    return {match[1]: match.groups() for match in map(ROW.match, text.splitlines()) if match}


def test_the_document_lists_every_operation_of_this_keras(
    script: ModuleType, rows: dict[str, tuple[str, ...]]
) -> None:
    version = re.search(r"Keras ([\d.]+) has", (CHECKOUT / "docs" / "operations.md").read_text())
    assert version is not None
    if version[1] != keras.__version__:
        pytest.skip(f"the document is of Keras {version[1]}, this is {keras.__version__}")
    # Found in another way than in the script.
    waiting, known = [keras.Operation], set()
    while waiting:
        for kind in waiting.pop().__subclasses__():
            if kind.__module__.startswith("keras.src.ops.") and kind not in known:
                known.add(kind.__name__)
                waiting.append(kind)
    assert set(rows) == known
    assert len(rows) > 300


def test_every_function_of_keras_ops_that_makes_an_operation_is_in_the_document(
    rows: dict[str, tuple[str, ...]],
) -> None:
    listed = {
        name.split(".")[-1] for row in rows.values() for name in re.findall(r"`(\S+)`", row[1])
    }
    for name, function in inspect.getmembers(keras.ops, inspect.isfunction):
        if re.search(r"return [A-Z]\w+\(.*\)(\.symbolic_call)?\(", inspect.getsource(function)):
            assert name in listed, name


def test_an_operation_that_is_not_split_has_a_reason(rows: dict[str, tuple[str, ...]]) -> None:
    for name, _, wrapped, converted, cut, why in rows.values():
        assert (why.strip() == "") == (wrapped == converted == cut == "yes"), name
        assert wrapped == "yes" or why.strip() == "not in a graph", name


@pytest.mark.parametrize("name", SAMPLE)
def test_the_document_agrees_with_the_results(
    script: ModuleType, rows: dict[str, tuple[str, ...]], name: str
) -> None:
    outcome = script.examine(name)
    marks = tuple("yes" if x else "no" for x in (outcome.wrapped, outcome.converted, outcome.cut))
    assert (*marks, outcome.why) == (*rows[name][2:5], rows[name][5].strip()), outcome.remark
