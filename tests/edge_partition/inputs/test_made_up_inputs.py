from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from state_models import StateModel
from tflite_models import FlatModel, chain_of_adds

from edge_core.contract.manifest import Pixels, Quantized, TensorSpec
from edge_core.runtime.stage_interpreter import InvokeError, StageInterpreter
from edge_partition.bundles.run_bundle import reference_payloads
from edge_partition.bundles.verify_bundle import verify_bundle
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.facts.model_facts import ModelFacts, input_specs
from edge_partition.inputs.bound_inputs import bound_inputs
from edge_partition.inputs.made_up_inputs import make_inputs, make_payloads
from edge_partition.inputs.operator_bounds import Bounds
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Rows of the table that ids look up.
ROWS = 7
IDS = (1, 6)


def table(flat: FlatModel, rows: int = ROWS) -> int:
    values = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    return flat.constant(f"table{len(flat.main.tensors)}", values)


def gather(flat: FlatModel, ids: int, shape: tuple[int, ...] = IDS, rows: int = ROWS) -> int:
    made = flat.tensor(f"rows{len(flat.main.tensors)}", (*shape, 2))
    flat.operator("GATHER", [table(flat, rows), ids], [made], schema.GatherOptionsT())
    return made


def step(
    flat: FlatModel,
    kind: str,
    inputs: list[int],
    *,
    shape: tuple[int, ...] = IDS,
    dtype: str = "int32",
    options: Any = None,
) -> int:
    made = flat.tensor(f"{kind}{len(flat.main.tensors)}", shape, dtype)
    flat.operator(kind, inputs, [made], options)
    return made


def whole(flat: FlatModel, *values: int) -> int:
    return flat.constant(f"c{len(flat.main.tensors)}", np.array(values, np.int32))


def bounds_of(
    change: Callable[[FlatModel, int], int], *, dtype: str = "int32", shape: tuple[int, ...] = IDS
) -> Bounds | None:
    """Return the bounds of ``ids``, which index a table after ``change``."""
    flat = FlatModel()
    ids = flat.tensor("ids", shape, dtype)
    made = gather(flat, change(flat, ids))
    return bound_inputs(read_tflite(flat.to_bytes([ids], [made]))).get("ids")


def wrap_negative(flat: FlatModel, ids: int) -> int:
    """Index a table like Keras: an id below 0 counts from the table's end."""
    is_negative = step(flat, "LESS", [ids, whole(flat, 0)], dtype="bool")
    added = step(flat, "ADD", [ids, whole(flat, ROWS)])
    return step(flat, "SELECT_V2", [is_negative, added, ids])


def split_and_join(flat: FlatModel, ids: int) -> int:
    halves = [flat.tensor(f"half{place}", (1, 3), "int32") for place in (0, 1)]
    options = schema.SplitOptionsT()
    options.numSplits = 2
    flat.operator("SPLIT", [whole(flat, 1), ids], halves, options)
    return step(flat, "CONCATENATION", halves[::-1])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _, ids: ids, (0, 6)),
        (lambda flat, ids: step(flat, "RESHAPE", [ids, whole(flat, 1, 6)]), (0, 6)),
        (wrap_negative, (0, 6)),
        (split_and_join, (0, 6)),
        (lambda flat, ids: step(flat, "ADD", [ids, whole(flat, 2)]), (-2, 4)),
        (lambda flat, ids: step(flat, "ADD", [whole(flat, 0, 1, 2, 3, 4, 5), ids]), (0, 1)),
        (lambda flat, ids: step(flat, "SUB", [ids, whole(flat, 1)]), (1, 7)),
        (lambda flat, ids: step(flat, "SUB", [whole(flat, 6), ids]), (0, 6)),
        (lambda flat, ids: step(flat, "MUL", [ids, whole(flat, 2)]), (0, 3)),
        (lambda flat, ids: step(flat, "FLOOR_DIV", [ids, whole(flat, 2)]), (0, 13)),
        (lambda flat, ids: step(flat, "MINIMUM", [ids, whole(flat, 3)]), (0, 6)),
        (lambda flat, ids: step(flat, "NEG", [step(flat, "NEG", [ids])]), (0, 6)),
        (lambda flat, ids: step(flat, "ADD", [ids, ids]), (0, 3)),
    ],
    ids=[
        *("itself", "reshaped", "negative ones wrapped", "split and joined", "shifted"),
        *("by positions", "counted from 1", "reversed", "doubled", "halved", "clamped", "negated"),
        "added to itself",
    ],
)  # fmt: skip
def test_ids_lie_within_the_table_that_they_look_up(
    change: Callable[[FlatModel, int], int], expected: tuple[int, int]
) -> None:
    bounds = bounds_of(change)
    assert bounds is not None
    assert (np.ceil(bounds.low), np.floor(bounds.high)) == expected


def test_ids_as_floats_and_narrow_integers_are_bounded_too() -> None:
    for dtype in ("float32", "uint8"):
        assert bounds_of(lambda flat, ids: step(flat, "CAST", [ids]), dtype=dtype) == Bounds(0, 6)


def test_an_operator_of_unknown_effect_sets_no_bounds() -> None:
    def hash_of(flat: FlatModel, ids: int) -> int:
        return step(flat, "FLOOR_MOD", [ids, whole(flat, ROWS)])

    assert bounds_of(hash_of) is None
    assert bounds_of(lambda flat, ids: step(flat, "SQUARE", [ids])) is None
    assert bound_inputs(read_tflite(chain_of_adds())) == {}


def test_the_smallest_of_several_tables_sets_the_bound() -> None:
    flat = FlatModel()
    ids = flat.tensor("ids", IDS, "int32")
    outputs = [gather(flat, ids, rows=rows) for rows in (50, 3, 9)]
    assert bound_inputs(read_tflite(flat.to_bytes([ids], outputs))) == {"ids": Bounds(0, 2)}


def test_other_operators_that_index_set_bounds_too() -> None:
    flat = FlatModel()
    looked, hot, place = (
        flat.tensor(name, shape, "int32")
        for name, shape in (("looked", (6,)), ("hot", (6,)), ("place", (4, 2)))
    )
    found = step(flat, "EMBEDDING_LOOKUP", [looked, table(flat)], shape=(6, 2), dtype="float32")
    ends = [flat.constant(name, np.float32(value)) for name, value in (("on", 1), ("off", 0))]
    depth = flat.constant("depth", np.int32(5))
    one = step(
        *(flat, "ONE_HOT", [hot, depth, *ends]),
        shape=(6, 5), dtype="float32", options=schema.OneHotOptionsT(),
    )  # fmt: skip
    cell = step(flat, "GATHER_ND", [table(flat), place], shape=(4,), dtype="float32")
    model = read_tflite(flat.to_bytes([looked, hot, place], [found, one, cell]))
    assert bound_inputs(model) == {
        "looked": Bounds(0, ROWS - 1),
        "hot": Bounds(0, 4),
        "place": Bounds(0, 1),  # Of the table's 7 rows and 2 columns the fewer.
    }


@pytest.mark.parametrize("kind", ["IF", "WHILE"])
def test_ids_that_a_called_subgraph_looks_up_are_bounded(kind: str) -> None:
    flat = StateModel()
    ids, go_on = flat.tensor("ids", IDS, "int32"), flat.tensor("go_on", (), "bool")
    start = flat.tensor("start", (*IDS, 2))
    called = []
    for _ in range(2):
        with flat.subgraph() as index:
            given = [flat.tensor("i", IDS, "int32")]
            if kind == "WHILE":
                given += [flat.tensor("g", (), "bool"), flat.tensor("s", (*IDS, 2))]
            found = gather(flat, given[0])
            flat.main.inputs = np.array(given, np.int32)
            outputs = [found] if kind == "IF" else [*given[:2], found]
            if kind == "WHILE" and not called:
                outputs = [given[1]]
            flat.main.outputs = np.array(outputs, np.int32)
            called.append(index)
    made = flat.tensor("made", (*IDS, 2))
    if kind == "IF":
        options = schema.IfOptionsT()
        options.thenSubgraphIndex, options.elseSubgraphIndex = called
        flat.operator("IF", [go_on, ids], [made], options)
    else:
        options = schema.WhileOptionsT()
        options.condSubgraphIndex, options.bodySubgraphIndex = called
        ends = [flat.tensor("end_ids", IDS, "int32"), flat.tensor("end", (), "bool")]
        flat.operator("WHILE", [ids, go_on, start], [*ends, made], options)
    model = read_tflite(flat.to_bytes([ids, go_on, start], [made]))
    assert bound_inputs(model)["ids"] == Bounds(0, ROWS - 1)


def test_a_length_is_bounded_by_the_positions_it_is_compared_with() -> None:
    flat = FlatModel()
    length = flat.tensor("length", (1,), "int32")
    places = flat.constant("places", np.arange(9, dtype=np.int32))
    made = step(flat, "LESS", [places, length], shape=(9,), dtype="bool")
    model = read_tflite(flat.to_bytes([length], [made]))
    assert bound_inputs(model) == {"length": Bounds(1, 9)}


def lookup_model() -> bytes:
    """Ids and segments index tables; the third input is a mask without a telling name."""
    flat = FlatModel()
    ids, segments, other = (flat.tensor(n, IDS, "int32") for n in ("ids", "segments", "other"))
    total = step(
        *(flat, "ADD", [gather(flat, ids), gather(flat, segments, rows=2)]),
        shape=(*IDS, 2), dtype="float32", options=schema.AddOptionsT(),
    )  # fmt: skip
    weight = step(flat, "CAST", [other], dtype="float32")
    return flat.to_bytes([ids, segments, other], [total, weight])


def test_the_runtime_accepts_made_up_inputs_and_refuses_an_id_beyond_the_table() -> None:
    model = read_tflite(lookup_model())
    specs = input_specs(model.graph, ModelFacts())
    outputs = tuple(
        TensorSpec(tensor.name, tensor.dtype, tensor.shape)
        for tensor in model.graph.boundary(len(model.graph.operators))
    )
    interpreter = StageInterpreter(bytes(model.data), specs, outputs, num_threads=1)
    answers = [interpreter.invoke(payload) for payload in make_payloads(model, specs, 50)]
    assert len(set(answers)) > 40
    (arrays,) = make_inputs(model, specs, 1)
    arrays["ids"][0, 0] = ROWS
    with pytest.raises(InvokeError):
        interpreter.invoke(b"".join(arrays[spec.name].tobytes() for spec in specs))
    found = list(make_inputs(model, specs, 50))
    assert {int(value) for one in found for value in one["ids"].flat} == set(range(ROWS))
    assert {int(value) for one in found for value in one["segments"].flat} == {0, 1}
    # Beside ids, integers of their shape that look nothing up are a mask.
    assert all((one["other"] == 1).all() for one in found)


def test_parts_of_a_model_with_small_tables_are_verified_and_have_a_reference(
    tmp_path: Path,
) -> None:
    model = read_tflite(lookup_model())
    bundle = write_bundle(
        tmp_path / "build",
        model,
        plan_split(model.graph, equal_fleet(2), stages=2),
        name="Lookup",
        deployment="lookup",
        quantization="as-given",
        weights="trained",
    )
    assert verify_bundle(bundle, count=20).identical == 20
    assert len(reference_payloads(bundle)) == 3


PLAIN = read_tflite(chain_of_adds())


def test_made_up_inputs_are_seeded_and_fit_their_specs() -> None:
    specs = (
        TensorSpec("image", "float32", (1, 16, 16, 3)),
        TensorSpec("vector", "float32", (1, 500)),
        TensorSpec("sound", "float32", (500,), rate_hz=16_000),
        TensorSpec("bytes", "int8", (500,)),
        TensorSpec("sixteen", "int16", (500,), quantized=Quantized(0.001, 0)),
        TensorSpec("index", "int64", (500,)),
        TensorSpec("flags", "bool", (500,)),
        TensorSpec("training", "bool", ()),
        TensorSpec("scalar", "float16", ()),
        TensorSpec("waves", "complex64", (500,)),
    )
    first, second = make_inputs(PLAIN, specs, 2)
    again = list(make_payloads(PLAIN, specs, 1))
    assert again == [b"".join(first[spec.name].tobytes() for spec in specs)]
    assert all(
        (array.dtype.name, array.shape) == (spec.dtype, spec.shape)
        for spec in specs
        for array in [first[spec.name]]
    )
    same = {name for name in first if first[name].tobytes() == second[name].tobytes()}
    assert same == {"flags", "training"}
    assert 0 <= first["image"].min() < 50
    assert 200 < first["image"].max() <= 255
    assert first["vector"].min() < -1
    assert 0.3 < np.abs(first["sound"]).max() <= 1
    assert first["bytes"].min() < -100
    assert first["bytes"].max() > 100
    assert first["sixteen"].max() > 20_000
    assert first["index"].min() >= 0
    assert 100 < first["index"].max() < 128
    assert first["flags"].all()
    assert not first["training"]
    assert np.abs(first["waves"].imag).max() > 1


@pytest.mark.parametrize(
    "name", ["mask", "padding_mask", "serving_default_attention_mask:0", "MaskInput", "inputMask"]
)
@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_masks_let_everything_pass(name: str, dtype: str) -> None:
    specs = (TensorSpec("x", "float32", (4,)), TensorSpec(name, dtype, (1, 9)))
    for arrays in make_inputs(PLAIN, specs, 2):
        assert (arrays[name] == 1).all()


def test_a_quantized_mask_is_the_integer_for_one() -> None:
    mask = TensorSpec("mask", "int8", (1, 9), quantized=Quantized(1 / 255, -128))
    specs = (TensorSpec("x", "float32", (4,)), mask)
    (arrays,) = make_inputs(PLAIN, specs, 1)
    assert (arrays["mask"] == 127).all()


def test_a_mask_varies_if_it_is_the_only_input() -> None:
    for name, dtype in (("mask", "bool"), ("flags", "bool"), ("mask", "int32")):
        first, second = make_inputs(PLAIN, (TensorSpec(name, dtype, (1, 90)),), 2)
        assert first[name].tobytes() != second[name].tobytes()


def test_a_name_that_only_contains_the_letters_of_mask_is_not_a_mask() -> None:
    specs = (TensorSpec("x", "float32", (4,)), TensorSpec("unmasked_text", "int32", (1, 90)))
    (arrays,) = make_inputs(PLAIN, specs, 1)
    assert len(set(arrays["unmasked_text"].flat)) > 10


def test_pictures_are_noise_converted_by_the_inputs_pixels() -> None:
    pixels = Pixels("rgb", (127.5,), (127.5,), unit=127.5)
    image = TensorSpec("image", "float32", (3, 24, 24, 3), pixels=pixels)
    first, second = make_inputs(PLAIN, (image,), 2)
    assert first["image"].shape == image.shape
    assert -1 <= first["image"].min() < -0.95
    assert 0.95 < first["image"].max() <= 1
    assert len({first["image"][row].tobytes() for row in range(3)}) == 3
    assert first["image"].tobytes() != second["image"].tobytes()
    quantized = replace(image, dtype="int8", quantized=Quantized(1 / 64, 3))
    (arrays,) = make_inputs(PLAIN, (quantized,), 1)
    assert arrays["image"].dtype == np.int8
    assert arrays["image"].min() == 3 - 64
    assert arrays["image"].max() == 3 + 64
