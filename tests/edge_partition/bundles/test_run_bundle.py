from __future__ import annotations

import hashlib
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tflite_models import FlatModel, chain_of_adds

from edge_core.contract.tensors import decode_tensors, encode_tensors
from edge_partition.bundles.bundle import Bundle, BundleError, read_bundle
from edge_partition.bundles.compare_outputs import find_difference
from edge_partition.bundles.run_bundle import (
    chain_stages,
    made_up_payloads,
    reference_payloads,
    whole_interpreter,
)
from edge_partition.bundles.verify_bundle import ComparisonError, verify_bundle
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.facts.model_facts import ModelFacts
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from pathlib import Path

    from edge_partition.tflite.graph import Wire


def bundle_of(
    data: bytes,
    path: Path,
    *,
    stages: int = 3,
    wire: Wire = "float32",
    labels: tuple[str, ...] = (),
) -> Bundle:
    model = read_tflite(data)
    return write_bundle(
        path,
        model,
        plan_split(model.graph, equal_fleet(stages), stages=stages, wire=wire),
        name="Model",
        deployment="model",
        quantization="none",
        weights="seeded",
        facts=ModelFacts(labels=labels),
    )


@pytest.fixture(scope="module")
def mobilenet(small_mobilenet: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_of(small_mobilenet("none"), tmp_path_factory.mktemp("mobilenet") / "build")


def test_three_stages_of_a_network_equal_the_whole_bit_for_bit(mobilenet: Bundle) -> None:
    progress: list[tuple[int, int]] = []
    verification = verify_bundle(
        mobilenet, count=3, on_input=lambda *counts: progress.append(counts)
    )
    assert len(mobilenet.manifest.stages) == 3
    assert verification.output_spread > 0  # So a difference would have shown.
    assert verification.exact
    assert (verification.inputs, verification.identical) == (3, 3)
    assert verification.max_difference == 0
    assert progress == [(done, 9) for done in range(1, 10)]


def test_references_are_the_payloads_of_each_boundary(mobilenet: Bundle) -> None:
    references = reference_payloads(mobilenet)
    manifest = mobilenet.manifest
    boundaries = [*(stage.inputs for stage in manifest.stages), manifest.outputs]
    assert [len(payload) for payload in references] == [
        sum(spec.size_bytes for spec in specs) for specs in boundaries
    ]
    assert chain_stages(mobilenet, references[:1]) == references[-1:]
    assert reference_payloads(mobilenet) == references


def test_a_stage_gets_its_inputs_in_its_own_order(mobilenet: Bundle, tmp_path: Path) -> None:
    # The contract: a stage's inputs are a subset of the tensors of the stage before, by name.
    data = mobilenet.whole_file.read_bytes()
    model = read_tflite(data)
    cut = next(p for p in model.graph.cuts if len(model.graph.boundary(p)) > 1)
    bundle = write_bundle(
        tmp_path / "build",
        model,
        plan_split(model.graph, equal_fleet(2), cuts=[cut]),
        name="Model",
        deployment="model",
        quantization="none",
        weights="seeded",
    )
    file = bundle.path / "manifest.json"
    document = json.loads(file.read_text())
    document["stages"][1]["inputs"].reverse()
    file.write_text(json.dumps(document))
    reversed_bundle = read_bundle(bundle.path)
    assert reversed_bundle.manifest.sent_by(0) == bundle.manifest.sent_by(0)[::-1]
    assert reversed_bundle.manifest.sent_by(0) != bundle.manifest.sent_by(0)
    assert verify_bundle(reversed_bundle, count=2).exact


def changed_weights(data: bytes) -> bytes:
    """Return ``data`` with one float of its constants changed in the last bit."""
    weight = np.arange(4, dtype=np.float32) + 1
    changed = weight.copy()
    changed[3] = np.nextafter(changed[3], np.float32(np.inf))
    assert data.count(weight.tobytes()) == 1
    return data.replace(weight.tobytes(), changed.tobytes())


def test_a_stage_with_other_weights_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "build"
    bundle = bundle_of(chain_of_adds(), path)
    assert verify_bundle(bundle).exact
    stage = next(
        stage
        for stage in bundle.manifest.stages
        if (np.arange(4, dtype=np.float32) + 1).tobytes() in bundle.stage_file(stage).read_bytes()
    )
    tampered = changed_weights(bundle.stage_file(stage).read_bytes())
    (path / stage.file).write_bytes(tampered)
    # With the new checksum in the manifest, or reading refuses the file.
    document = json.loads((path / "manifest.json").read_text())
    document["stages"][stage.index]["sha256"] = hashlib.sha256(tampered).hexdigest()
    (path / "manifest.json").write_text(json.dumps(document))

    verification = verify_bundle(read_bundle(path))
    assert not verification.exact
    assert verification.identical < verification.inputs == 8
    assert 0 < verification.max_difference < 1e-5


def constant_model() -> bytes:
    """Zeros plus constants: no tensor after the input varies with ``x``."""
    flat = FlatModel()
    x = flat.tensor("x")
    one = flat.constant("one", np.ones(4, np.float32))
    zeros = flat.tensor("zeros")
    flat.operator("ZEROS_LIKE", [x], [zeros])
    return flat.to_bytes([x], [flat.add(flat.add(zeros, one, "first"), one, "second")])


def saturated_model() -> bytes:
    """``min(x + (1, 2, 3, 4) + 5, -1000)``: one answer to every input that is not extreme."""
    flat = FlatModel()
    x = flat.tensor("x")
    weight = flat.constant("weight", np.arange(4, dtype=np.float32) + 1)
    first = flat.add(x, weight, "first")
    second = flat.add(first, flat.constant("five", np.full(4, 5, np.float32)), "second")
    least = flat.tensor("least")
    low = flat.constant("low", np.full(4, -1000, np.float32))
    flat.operator("MINIMUM", [second, low], [least])
    return flat.to_bytes([x], [least])


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_a_model_with_constant_answers_is_no_comparison(tmp_path: Path, stages: int) -> None:
    bundle = bundle_of(constant_model(), tmp_path / "build", stages=stages)
    with pytest.raises(ComparisonError, match=r"inputs of your own with .*verify BUILD FILES"):
        verify_bundle(bundle)
    with pytest.raises(ComparisonError, match="same output for every input"):
        verify_bundle(bundle, made_up_payloads(bundle, 1))


@pytest.mark.parametrize(("stages", "tensors"), [(1, 2), (2, 1), (3, 2)])
def test_with_saturated_answers_tensors_inside_are_compared(
    tmp_path: Path, stages: int, tensors: int
) -> None:
    path = tmp_path / "build"
    bundle = bundle_of(saturated_model(), path, stages=stages)
    for payloads in (None, made_up_payloads(bundle, 1)):
        verification = verify_bundle(bundle, payloads)
        assert verification.output_spread == 0
        assert verification.inside is not None
        assert verification.inside.tensors == tensors
        assert verification.inside.identical == verification.inside.inputs
        assert verification.exact
    # The comparison fails where a stage computes something else, which no answer shows.
    for stage in bundle.manifest.stages:
        data = bundle.stage_file(stage).read_bytes()
        if (np.arange(4, dtype=np.float32) + 1).tobytes() in data:
            bundle.stage_file(stage).write_bytes(changed_weights(data))
    verification = verify_bundle(bundle)
    assert verification.identical == verification.inputs
    assert verification.inside is not None
    assert verification.inside.identical < verification.inside.inputs
    assert not verification.exact


def test_nan_equals_nan_and_infinity_equals_infinity(tmp_path: Path) -> None:
    flat = FlatModel()
    x, out = flat.tensor("x"), flat.tensor("out")
    flat.operator("LOG", [x], [out])  # NaN below zero, minus infinity at zero
    bundle = bundle_of(flat.to_bytes([x], [out]), tmp_path / "build", stages=1)
    rows = ([-1, 0, 1, 1], [-1, 0, 1, np.e], [-1, 0, -1, 1])
    payloads = [np.array(row, np.float32).tobytes() for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verify_bundle(bundle, payloads[:1]).exact
        first, near, far = (whole_interpreter(bundle).invoke(payload) for payload in payloads)
        assert find_difference(bundle.manifest, first, near) == pytest.approx(1)
        assert find_difference(bundle.manifest, first, far) == np.inf


def test_a_saturated_answer_over_a_float16_wire_is_compared_with_nothing_rounded(
    tmp_path: Path,
) -> None:
    verification = verify_bundle(
        bundle_of(saturated_model(), tmp_path / "build", stages=3, wire="float16")
    )
    assert verification.inside is not None
    assert verification.exact


def test_a_persons_sample_is_the_boards_reference_and_the_first_verified_input(
    tmp_path: Path,
) -> None:
    model = read_tflite(chain_of_adds())
    sample = np.array([7, 8, 9, 10], np.float32).tobytes()
    bundle = write_bundle(
        tmp_path / "build",
        model,
        plan_split(model.graph, equal_fleet(2), stages=2),
        name="Model",
        deployment="model",
        quantization="none",
        weights="trained",
        sample=sample,
    )
    bundle = read_bundle(bundle.path)
    assert bundle.sample() == sample
    assert reference_payloads(bundle)[0] == sample
    payloads = made_up_payloads(bundle, 3)
    assert payloads[0] == sample
    assert len(set(payloads)) == 3
    assert verify_bundle(bundle, count=3).inputs == 3
    (bundle.path / "sample.bin").write_bytes(sample[:-1])
    with pytest.raises(BundleError, match=r"sample.bin has 15 bytes; the model's inputs have 16"):
        verify_bundle(bundle)


def test_given_inputs_are_compared(tmp_path: Path) -> None:
    bundle = bundle_of(chain_of_adds(), tmp_path / "build")
    inputs = [np.full(4, value, np.float32) for value in (1, 2)]
    payloads = [encode_tensors(bundle.manifest.inputs, {"x": x}) for x in inputs]
    verification = verify_bundle(bundle, payloads)
    assert verification.exact
    assert verification.inputs == 2
    assert verification.output_spread >= 2  # The chain adds x to itself.
    outputs = decode_tensors(bundle.manifest.outputs, chain_stages(bundle, payloads)[0])
    np.testing.assert_array_equal(outputs["sum"], 2 * inputs[0] + 3 * np.arange(4) + 3)


def test_one_input_or_one_input_twice_is_still_compared(tmp_path: Path) -> None:
    bundle = bundle_of(chain_of_adds(), tmp_path / "build")
    (payload,) = made_up_payloads(bundle, 1)
    for payloads in ([payload], [payload, payload]):
        assert verify_bundle(bundle, payloads).exact


def test_a_float16_wire_is_exact_except_for_the_rounding_whose_cost_is_reported(
    mobilenet: Bundle, tmp_path: Path
) -> None:
    narrow = bundle_of(mobilenet.whole_file.read_bytes(), tmp_path / "build", wire="float16")
    progress: list[tuple[int, int]] = []
    verification = verify_bundle(narrow, count=3, on_input=lambda *counts: progress.append(counts))
    assert read_bundle(narrow.path).manifest.model.wire == "float16"
    assert verification.exact
    wire = verification.wire
    assert wire is not None
    assert 0 < wire.max_difference < verification.output_spread
    assert wire.clamped == 0
    assert wire.same_top is not None
    assert wire.bytes_between == wire.float32_bytes_between / 2
    assert progress == [(done, 18) for done in range(1, 19)]
    # The model's own inputs and outputs are unchanged.
    assert narrow.manifest.inputs == mobilenet.manifest.inputs
    assert narrow.manifest.outputs == mobilenet.manifest.outputs
    inside = [spec for stage in narrow.manifest.stages[1:] for spec in stage.inputs]
    assert {spec.dtype for spec in inside} == {"float16"}


def test_a_damaged_stage_is_not_taken_for_rounding(tmp_path: Path) -> None:
    bundle = bundle_of(chain_of_adds(), tmp_path / "build", wire="float16")
    for stage in bundle.manifest.stages:
        data = bundle.stage_file(stage).read_bytes()
        if (np.arange(4, dtype=np.float32) + 1).tobytes() in data:
            bundle.stage_file(stage).write_bytes(changed_weights(data))
    assert not verify_bundle(bundle).exact


def test_large_activations_are_clamped_and_counted(tmp_path: Path) -> None:
    bundle = bundle_of(chain_of_adds(), tmp_path / "build", wire="float16")
    payload = np.array([1, 2, 70000, -80000], np.float32).tobytes()
    wire = verify_bundle(bundle, [payload]).wire
    assert wire is not None
    assert wire.clamped > 0
    # x is an input of the model and is sent unchanged, so only computed sums are clamped.
    assert 14496 - 20 < wire.max_difference < 14496 + 20


def test_accuracy_counts_the_inputs_whose_class_is_known(tmp_path: Path) -> None:
    bundle = bundle_of(chain_of_adds(), tmp_path / "build")
    # The chain gives 2 x + (3, 6, 9, 12).
    payloads = [np.float32(x).tobytes() for x in ([9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 0])]
    accuracy = verify_bundle(bundle, payloads, classes=[0, 2, None]).accuracy
    assert accuracy is not None
    assert (accuracy.inputs, accuracy.whole_right, accuracy.parts_right) == (2, 1, 1)
    assert verify_bundle(bundle, payloads, classes=[None] * 3).accuracy is None
    assert verify_bundle(bundle, payloads).accuracy is None


def test_a_third_party_file_with_one_name_for_several_tensors_is_verified(
    tmp_path: Path,
) -> None:
    flat = FlatModel()
    x, y = flat.tensor("same"), flat.tensor("")
    first = flat.add(x, y, "same")
    last = flat.add(flat.add(first, x, ""), y, "same")
    verification = verify_bundle(bundle_of(flat.to_bytes([x, y], [first, last]), tmp_path / "b"))
    assert verification.exact
    assert verification.output_spread > 0
