from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_core.contract.manifest import ITEM_SIZE_BYTES, Manifest, Pixels, Quantized, TensorSpec
from edge_core.errors import ManifestError

SHA = "0123456789abcdef" * 4
MISSING = object()

# The example of the contract, with values for the dots.
CONTRACT = """
{"schema": 1, "deployment": "mobilenet-v3-large", "generation": "3f2a",
 "model": {"name": "MobileNetV3Large", "sha256": "SHA", "quantization": "none"},
 "inputs":  [{"name": "image", "dtype": "float32", "shape": [1, 224, 224, 3]}],
 "outputs": [{"name": "scores", "dtype": "float32", "shape": [1, 1000]}],
 "stages": [{"index": 0, "devices": ["pi-1"], "file": "stages/0.tflite", "sha256": "SHA",
             "size_bytes": 1,
             "inputs": [{"name": "image", "dtype": "float32", "shape": [1, 224, 224, 3]}],
             "outputs": [{"name": "scores", "dtype": "float32", "shape": [1, 1000]}],
             "predicted": {"invoke_ms": 0.0, "ram_bytes": 0}}]}
""".replace("SHA", SHA)


def tensor(name: str, *shape: int, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


def stage(index: int, inputs: list[Any], outputs: list[Any], *devices: str) -> dict[str, Any]:
    return {
        "index": index,
        "devices": list(devices),
        "file": f"stages/{index}.tflite",
        "sha256": SHA,
        "size_bytes": 1000 + index,
        "inputs": inputs,
        "outputs": outputs,
        "predicted": {"invoke_ms": 12.5, "ram_bytes": 40_000_000},
    }


def valid() -> dict[str, Any]:
    """Three stages: ``gate`` skips the second stage, which has two replicas."""
    image, middle = tensor("image", 1, 8, 8, 3), tensor("middle", 1, 4, dtype="int8")
    gate, last = tensor("gate", dtype="bool"), tensor("last", 0, 2, dtype="int64")
    scores = tensor("scores", 1, 10)
    document = {
        "schema": 1,
        "deployment": "tiny",
        "generation": "g1",
        "model": {
            "name": "Tiny née ☃",
            "sha256": SHA,
            "quantization": "int8",
            "weights": "seeded",
            "labels": ["cat", "dög"],
            "wire": "float16",
        },
        "inputs": [image],
        "outputs": [scores],
        "stages": [
            stage(0, [image], [middle, gate], "pi-1"),
            stage(1, [middle, gate], [last, gate], "pi-2", "pi-3"),
            stage(2, [last, gate], [scores], "pi-4"),
        ],
    }
    # Through JSON, so that no object occurs twice.
    read: dict[str, Any] = json.loads(json.dumps(document))
    return read


def changed(path: tuple[str | int, ...], value: Any, document: dict[str, Any] | None = None) -> str:
    """Return a manifest with one field replaced or removed."""
    document = document or valid()
    place = document
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(document)


def error_of(text: str | bytes) -> str:
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_the_contracts_example_parses() -> None:
    manifest = Manifest.from_json(CONTRACT)
    assert manifest.deployment == "mobilenet-v3-large"
    assert manifest.inputs == (TensorSpec("image", "float32", (1, 224, 224, 3)),)
    assert manifest.inputs[0].size_bytes == 1 * 224 * 224 * 3 * 4
    assert manifest.stages[0].devices == ("pi-1",)
    assert manifest.model.labels == ()
    assert manifest.model.wire == "float32"


def test_a_manifest_written_and_read_is_equal() -> None:
    manifest = Manifest.from_json(json.dumps(valid()))
    assert json.loads(manifest.to_json()) == valid()
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json().encode()) == manifest


def telling() -> dict[str, Any]:
    """A manifest with all descriptions of values and state."""
    document = valid()
    document["inputs"][0]["pixels"] = {
        "order": "bgr",
        "mean": [103.939, 116.779, 123.68],
        "std": [1.0],
        "unit": 1.0,
        "resize": "bicubic",
        "fit": "letterbox",
        "said_by": "application",
    }
    document["inputs"][0]["quantized"] = {"scale": 0.0078125, "zero_point": -128}
    document["inputs"][0]["rate_hz"] = 16_000
    document["outputs"][0]["scores"] = "logits"
    document["model"] |= {"state": "keep", "detections": "ssd"}
    document["stages"][0]["state"] = True
    document["needs"] = ["state", "telepathy"]
    return document


def test_descriptions_of_values_and_state_are_written_and_read() -> None:
    manifest = Manifest.from_json(json.dumps(telling()))
    (image,), (scores,) = manifest.inputs, manifest.outputs
    assert image.pixels == Pixels(
        "bgr", (103.939, 116.779, 123.68), (1.0,), 1.0, "bicubic", "letterbox", "application"
    )
    assert image.quantized == Quantized(0.0078125, -128)
    assert (image.rate_hz, scores.scores) == (16_000, "logits")
    assert (manifest.model.state, manifest.model.detections) == ("keep", "ssd")
    assert manifest.needs == ("state", "telepathy")
    assert [manifest.state_of(stage) for stage in manifest.stages] == ["keep", "", ""]
    again = Manifest.from_json(manifest.to_json())
    assert json.loads(manifest.to_json()) == telling() == json.loads(again.to_json())
    # Name, dtype and shape alone decide equality; the stage's tensor has no descriptions.
    assert image == manifest.stages[0].inputs[0]
    assert manifest.stages[0].inputs[0].pixels is None


def test_a_manifest_without_descriptions_has_no_fields_for_them() -> None:
    manifest = Manifest.from_json(json.dumps(valid()))
    assert (manifest.needs, manifest.model.state, manifest.model.detections) == ((), "", "")
    assert manifest.inputs[0].pixels is manifest.inputs[0].quantized is None
    assert not any(stage.state for stage in manifest.stages)
    for key in ("needs", "state", "detections", "pixels", "quantized", "scores", "rate_hz"):
        assert f'"{key}":' not in manifest.to_json()


def test_a_stage_with_state_is_reset_by_default() -> None:
    manifest = Manifest.from_json(changed(("stages", 0, "state"), value=True))
    assert manifest.state_of(manifest.stages[0]) == "reset"


def test_a_stage_with_state_has_one_board() -> None:
    assert "stages[1] keeps state and names 2 devices" in error_of(
        changed(("stages", 1, "state"), value=True)
    )


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("needs",), "state", "needs"),
        (("needs",), [["state"]], "needs[0]"),
        (("needs",), None, "needs"),
        (("model", "state"), "forget", "model.state"),
        (("model", "state"), True, "model.state"),
        (("model", "detections"), "faces", "model.detections"),
        (("stages", 0, "state"), "yes", "stages[0].state"),
        (("stages", 0, "state"), 1, "stages[0].state"),
        (("outputs", 0, "scores"), "high", "outputs[0].scores"),
        (("inputs", 0, "rate_hz"), -1, "inputs[0].rate_hz"),
        (("inputs", 0, "rate_hz"), 16e3, "inputs[0].rate_hz"),
        (("inputs", 0, "quantized"), [1, 2], "inputs[0].quantized"),
        (("inputs", 0, "quantized"), {"scale": 1.0}, "zero_point is missing"),
        (("inputs", 0, "quantized"), {"scale": 0, "zero_point": 1}, "inputs[0].quantized"),
        (("inputs", 0, "quantized"), {"scale": -1, "zero_point": 1}, "inputs[0].quantized.scale"),
        (("inputs", 0, "quantized"), {"scale": 1, "zero_point": 0.5}, "inputs[0].quantized"),
        (("inputs", 0, "pixels"), "0..255", "inputs[0].pixels"),
        (("inputs", 0, "pixels", "order"), "grb", "inputs[0].pixels.order"),
        (("inputs", 0, "pixels", "order"), MISSING, "order is missing"),
        (("inputs", 0, "pixels", "order"), "gray", "inputs[0].pixels.mean"),
        (("inputs", 0, "pixels", "mean"), [1, 2], "inputs[0].pixels.mean"),
        (("inputs", 0, "pixels", "mean"), [float("nan")], "inputs[0].pixels.mean[0]"),
        (("inputs", 0, "pixels", "mean"), 5, "inputs[0].pixels.mean"),
        (("inputs", 0, "pixels", "std"), [], "inputs[0].pixels.std"),
        (("inputs", 0, "pixels", "std"), [0.0], "inputs[0].pixels.std"),
        (("inputs", 0, "pixels", "unit"), 0, "inputs[0].pixels.unit"),
        (("inputs", 0, "pixels", "unit"), 10**400, "inputs[0].pixels.unit"),
        (("inputs", 0, "pixels", "resize"), "lanczos", "inputs[0].pixels.resize"),
        (("inputs", 0, "pixels", "fit"), "pad", "inputs[0].pixels.fit"),
        (("inputs", 0, "pixels", "said_by"), "me", "inputs[0].pixels.said_by"),
    ],
)
def test_an_error_in_a_description_names_the_field(
    path: tuple[str | int, ...], value: Any, field: str
) -> None:
    assert field in error_of(changed(path, value, telling()))


def test_unknown_fields_are_ignored() -> None:
    assert Manifest.from_json(changed(("comment",), "hand-made")) == Manifest.from_json(
        json.dumps(valid())
    )


def test_stages_of_a_device_include_stages_with_replicas() -> None:
    manifest = Manifest.from_json(json.dumps(valid()))
    assert [stage.index for stage in manifest.stages_of("pi-3")] == [1]
    assert manifest.stages_of("pi-9") == ()


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("schema",), 2, "schema 2"),
        (("schema",), True, "schema true"),
        (("schema",), MISSING, "schema null"),
        (("deployment",), MISSING, "deployment is missing"),
        (("deployment",), "", "deployment"),
        (("deployment",), "a/b", "deployment"),
        (("deployment",), 7, "deployment"),
        (("generation",), "..", "generation"),
        (("model",), [], "model"),
        (("model", "name"), None, "model.name"),
        (("model", "sha256"), SHA.upper(), "model.sha256"),
        (("model", "quantization"), MISSING, "quantization is missing"),
        (("model", "labels"), "cat", "model.labels"),
        (("model", "labels"), ["cat", 1], "model.labels[1]"),
        (("inputs",), {}, "inputs"),
        (("inputs", 0), "image", "inputs[0]"),
        (("inputs", 0, "dtype"), "float31", "inputs[0].dtype"),
        (("inputs", 0, "dtype"), "object", "inputs[0].dtype"),
        (("inputs", 0, "shape"), 3, "inputs[0].shape"),
        (("inputs", 0, "shape"), [1, -1], "inputs[0].shape[1]"),
        (("inputs", 0, "shape"), [1.0], "inputs[0].shape[0]"),
        (("inputs", 0, "shape"), [True], "inputs[0].shape[0]"),
        (("inputs", 0, "shape"), [1 << 40], "inputs[0].shape"),
        (("inputs", 0, "shape"), [10**4000] * 3, "inputs[0].shape"),
        (("outputs", 0, "name"), 1, "outputs[0].name"),
        (("stages",), [], "stages"),
        (("stages", 1), None, "stages[1]"),
        (("stages", 1, "index"), True, "stages[1].index"),
        (("stages", 1, "file"), "stages/0.tflite", "stages[1].file"),
        (("stages", 1, "file"), "../../etc/passwd", "stages[1].file"),
        (("stages", 1, "file"), "/etc/passwd", "stages[1].file"),
        (("stages", 1, "file"), "stages/1.tflite\n", "stages[1].file"),
        (("stages", 1, "sha256"), "../" + SHA[3:], "stages[1].sha256"),
        (("stages", 1, "size_bytes"), "1", "stages[1].size_bytes"),
        (("stages", 1, "size_bytes"), False, "stages[1].size_bytes"),
        (("stages", 1, "size_bytes"), -1, "stages[1].size_bytes"),
        (("stages", 1, "devices"), [], "stages[1].devices"),
        (("stages", 1, "devices"), ["pi", "pi"], "stages[1].devices"),
        (("stages", 1, "devices"), "pi-1", "stages[1].devices"),
        (("stages", 1, "devices"), ["pi/1"], "stages[1].devices[0]"),
        (("stages", 1, "devices"), ["pi-1", "+"], "stages[1].devices[1]"),
        (("stages", 1, "devices"), ["#"], "stages[1].devices[0]"),
        (("stages", 1, "devices"), [".."], "stages[1].devices[0]"),
        (("stages", 1, "devices"), ["pi\n"], "stages[1].devices[0]"),
        (("stages", 1, "devices"), ["p" * 129], "stages[1].devices[0]"),
        (("stages", 1, "predicted"), MISSING, "predicted is missing"),
        (("stages", 1, "predicted", "invoke_ms"), MISSING, "invoke_ms is missing"),
        (("stages", 1, "predicted", "invoke_ms"), True, "stages[1].predicted.invoke_ms"),
        (("stages", 1, "predicted", "invoke_ms"), -0.1, "stages[1].predicted.invoke_ms"),
        (("stages", 1, "predicted", "invoke_ms"), float("nan"), "stages[1].predicted.invoke_ms"),
        (("stages", 1, "predicted", "invoke_ms"), float("inf"), "stages[1].predicted.invoke_ms"),
        (("stages", 1, "predicted", "invoke_ms"), 10**400, "stages[1].predicted.invoke_ms"),
        (("stages", 1, "predicted", "ram_bytes"), 1.5, "stages[1].predicted.ram_bytes"),
        (("stages", 1, "outputs"), MISSING, "outputs is missing"),
        # The stages do not form a pipeline.
        (("stages", 0, "index"), 1, "stages[0]"),
        (("stages", 1, "inputs", 0, "name"), "nobody", "stages[1].inputs"),
        (("stages", 1, "inputs", 0, "dtype"), "uint8", "stages[1].inputs"),
        (("stages", 2, "inputs", 1), tensor("image", 1, 8, 8, 3), "stages[2].inputs"),
        (("stages", 2, "outputs", 0, "shape"), [1, 11], "stages[2].outputs"),
        (("stages", 1, "outputs", 0, "name"), "gate", "stages[1].outputs"),
    ],
)
def test_an_error_names_the_field(path: tuple[str | int, ...], value: Any, field: str) -> None:
    assert field in error_of(changed(path, value))


@pytest.mark.parametrize("key", sorted(set(valid()) - {"schema"}))
def test_each_field_is_required(key: str) -> None:
    assert f"{key} is missing" in error_of(changed((key,), MISSING))


@pytest.mark.parametrize("key", sorted(valid()["stages"][0]))
def test_each_field_of_a_stage_is_required(key: str) -> None:
    message = error_of(changed(("stages", 2, key), MISSING))
    assert f"stages[2].{key} is missing" in message
    assert "manifest" in message


def test_a_stage_with_another_index_is_refused() -> None:
    document = valid()
    document["stages"].reverse()
    assert "stages[0].index is 2" in error_of(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"text"',
        b"\xff\xfe\x00",
        b"\x00" * 9,
        "[" * 100_000,
        "{}garbage",
    ],
)
def test_text_that_is_not_a_json_object_is_refused(text: str | bytes) -> None:
    assert "manifest" in error_of(text)


@pytest.mark.parametrize("depth", [10, 300, 900, 940, 960, 970, 980, 985, 990, 5000])
def test_deep_nesting_in_a_field_is_refused(depth: int) -> None:
    marker = '"deployment": "tiny"'
    text = json.dumps(valid())
    assert marker in text
    error_of(text.replace(marker, f'"deployment": {"[" * depth}{"]" * depth}'))


def test_an_error_shortens_a_value_of_a_megabyte() -> None:
    assert "deployment" in error_of(changed(("deployment",), "x" * 1_000_000))


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["float32", "pi-1", SHA, "stages/0.tflite", 10**400, 1]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@given(st.text() | st.binary() | ANY_JSON.map(json.dumps))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_raises_a_manifest_error(text: str | bytes) -> None:
    error_of(text)


@given(st.lists(st.tuples(st.sampled_from(places(valid())), ANY_JSON), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_a_mutated_manifest_is_read_unchanged_or_refused(
    mutations: list[tuple[tuple[str | int, ...], Any]],
) -> None:
    document: Any = valid()
    for path, value in mutations:
        place = document
        for key in path[:-1]:
            present = (isinstance(place, dict) and key in place) or (
                isinstance(place, list) and isinstance(key, int) and key < len(place)
            )
            if not present:
                break
            place = place[key]
        else:
            if isinstance(place, dict) or (
                isinstance(place, list) and isinstance(path[-1], int) and len(place) > path[-1]
            ):
                place[path[-1]] = value
    try:
        manifest = Manifest.from_json(json.dumps(document))
    except ManifestError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert all(spec.dtype in ITEM_SIZE_BYTES for spec in manifest.inputs)


def test_the_description_of_a_stage_is_bounded() -> None:
    document = valid()
    wrapped = {"name": "n" * 500, "operation": "keras.Add", "constants": ["x2=3.0" * 50] * 50}
    document["stages"][1] |= {
        "layers": [f"layer_{number}" * 40 for number in range(1000)],
        "more_layers": 5,
        "wrapped": [wrapped] * 1000,
    }
    stage = Manifest.from_json(json.dumps(document)).stages[1]
    assert len(stage.layers) == 256
    assert {len(name) for name in stage.layers} == {100}
    assert stage.more_layers == 1000 - 256 + 5
    assert (len(stage.wrapped), stage.more_wrapped) == (64, 936)
    assert (len(stage.wrapped[0].name), len(stage.wrapped[0].constants)) == (100, 8)
    assert len(stage.wrapped[0].constants[0]) == 60


def test_a_manifest_without_layers_has_an_empty_description() -> None:
    stage = Manifest.from_json(CONTRACT).stages[0]
    assert (stage.layers, stage.more_layers, stage.wrapped, stage.more_wrapped) == ((), 0, (), 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", "conv"),
        ("layers", [1]),
        ("more_layers", -1),
        ("wrapped", {}),
        ("wrapped", [{"name": "a", "operation": "b"}]),
        ("wrapped", [{"name": "a", "operation": "b", "constants": "x2=3.0"}]),
    ],
)
def test_an_error_in_layers_names_the_field(field: str, value: Any) -> None:
    document = valid()
    document["stages"][0][field] = value
    with pytest.raises(ManifestError, match=r"stages\[0\]"):
        Manifest.from_json(json.dumps(document))
