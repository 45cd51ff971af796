from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import flatbuffers
import numpy as np
import pytest
import state_models
from ai_edge_litert import schema_py_generated as schema

from edge_core.contract.manifest import TensorSpec
from edge_core.errors import ModelLoadError, PayloadError
from edge_core.runtime.stage_interpreter import StageInterpreter, runtime_name

if TYPE_CHECKING:
    from pathlib import Path

X = TensorSpec("x", "float32", (2, 3))
MASK = TensorSpec("mask", "bool", (3,))
SUM = TensorSpec("sum", "float32", (2, 3))
NOT = TensorSpec("not", "bool", (3,))
PASSED = TensorSpec("passed", "int8", (5,))


def stage_file() -> bytes:
    """``sum = x + x`` and ``not = !mask``, inputs in the order mask, x."""
    main = schema.SubGraphT()
    main.tensors = []
    for spec in (X, MASK, SUM, NOT):
        tensor = schema.TensorT()
        tensor.name = spec.name
        tensor.shape = np.array(spec.shape, np.int32)
        tensor.type = getattr(schema.TensorType, spec.dtype.upper())
        main.tensors.append(tensor)
    main.operators = []
    for code, (inputs, outputs) in enumerate([([0, 0], [2]), ([1], [3])]):
        operator = schema.OperatorT()
        operator.opcodeIndex = code
        operator.inputs, operator.outputs = np.int32(inputs), np.int32(outputs)
        main.operators.append(operator)
    main.operators[0].builtinOptionsType = schema.BuiltinOptions.AddOptions
    main.operators[0].builtinOptions = schema.AddOptionsT()
    main.inputs, main.outputs = np.int32([1, 0]), np.int32([3, 2])
    model = schema.ModelT()
    model.version = 3
    model.subgraphs = [main]
    model.buffers = [schema.BufferT()]
    model.operatorCodes = []
    for builtin in (schema.BuiltinOperator.ADD, schema.BuiltinOperator.LOGICAL_NOT):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 1
        model.operatorCodes.append(code)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def payload(x: np.ndarray, mask: list[bool], passed: bytes = b"12345") -> bytes:
    return np.array(mask).tobytes() + passed + x.astype("<f4").tobytes()


def test_tensors_are_addressed_by_name_in_manifest_order_at_any_offset() -> None:
    stage = StageInterpreter(stage_file(), [MASK, PASSED, X], [SUM, PASSED, NOT], num_threads=1)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = payload(x, [True, False, True])
    expected = (x + x).tobytes() + b"12345" + bytes([0, 1, 0])
    assert stage.input_bytes == len(data)
    assert stage.output_bytes == len(expected)
    for form in (data, bytearray(data), memoryview(data)):
        assert stage.invoke(form) == expected
    # A later request does not change the result of an earlier request.
    first = stage.invoke(data)
    assert stage.invoke(payload(x + 1, [False] * 3)) != first
    assert first == expected


def test_a_path_is_loaded_like_bytes(tmp_path: Path) -> None:
    path = tmp_path / "0.tflite"
    path.write_bytes(stage_file())
    data = payload(np.ones((2, 3), np.float32), [True] * 3)
    answers = {
        StageInterpreter(model, [MASK, PASSED, X], [NOT, SUM], num_threads=2).invoke(data)
        for model in (path, str(path), stage_file())
    }
    assert len(answers) == 1


def test_a_stage_may_read_an_input_and_pass_the_input_on() -> None:
    stage = StageInterpreter(stage_file(), [MASK, PASSED, X], [X, SUM], num_threads=1)
    x = np.full((2, 3), 0.1, np.float32)
    assert stage.invoke(payload(x, [True] * 3)) == x.tobytes() + (x + x).tobytes()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_error_about_a_payloads_size_has_both_sizes(size: int) -> None:
    stage = StageInterpreter(stage_file(), [MASK, PASSED, X], [SUM], num_threads=1)
    with pytest.raises(PayloadError, match=rf"has {size} bytes; expected 32\b"):
        stage.invoke(bytes(size))


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ([X], [SUM], "reads mask"),
        ([MASK, X], [PASSED], "has no output passed"),
        (
            [MASK, TensorSpec("x", "float32", (3, 2))],
            [SUM],
            r"x float32\[2, 3\].*x float32\[3, 2\]",
        ),
        ([MASK, X], [TensorSpec("sum", "int8", (2, 3))], r"sum float32.*sum int8"),
    ],
)
def test_tensors_that_differ_from_the_manifest_are_refused(
    inputs: list[TensorSpec], outputs: list[TensorSpec], words: str
) -> None:
    with pytest.raises(ModelLoadError, match=words):
        StageInterpreter(stage_file(), inputs, outputs, num_threads=1)


def test_a_model_that_the_runtime_refuses_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.tflite"
    path.write_bytes(stage_file()[:200])
    for model in (path, b"no model", tmp_path / "absent.tflite"):
        with pytest.raises(ModelLoadError, match="cannot load") as caught:
            StageInterpreter(model, [], [], num_threads=1)
        assert "\n" not in str(caught.value)


def test_the_name_of_the_runtime_has_a_version() -> None:
    assert re.fullmatch(r"(ai-edge-litert|tflite-runtime) \d+\.\d+.*", runtime_name())


def test_importing_the_module_loads_no_runtime() -> None:
    code = (
        "import sys, edge_core.runtime.stage_interpreter; "
        "print({'tensorflow', 'ai_edge_litert', 'tflite_runtime', 'keras'} & sys.modules.keys())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert result.stdout.strip() == "set()"


def test_loading_hides_the_runtimes_info_lines_and_keeps_other_output(tmp_path: Path) -> None:
    path = tmp_path / "0.tflite"
    path.write_bytes(stage_file())
    code = (
        "import os, sys\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "from edge_core.runtime import stage_interpreter\n"
        "from edge_core.contract.manifest import TensorSpec as T\n"
        "with stage_interpreter._without_chatter():\n"
        "    Interpreter(model_path=sys.argv[1]).allocate_tensors()\n"
        "    os.write(2, b'a warning of another thread\\n')\n"
    )
    loud = (
        "import sys\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        "Interpreter(model_path=sys.argv[1]).allocate_tensors()\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", text, os.fspath(path)],
            capture_output=True,
            check=True,
            text=True,
        )
        for text in (loud, code)
    ]
    assert "INFO" in said[0].stderr
    assert said[1].stderr == "a warning of another thread\n"
    assert said[1].stdout == ""


def test_a_float32_tensor_is_widened_and_narrowed_where_the_manifest_says_float16() -> None:
    x16, sum16 = (TensorSpec(spec.name, "float16", spec.shape) for spec in (X, SUM))
    half = TensorSpec("half", "float16", (3,))
    stage = StageInterpreter(
        stage_file(), [x16, half, MASK], [half, sum16, NOT, x16], num_threads=1
    )
    x = np.array([[0.1, 1, -2], [3, 40000, -60000]], np.float16)
    passed = np.array([1.5, np.inf, 65504], np.float16)
    result = stage.invoke(x.tobytes() + passed.tobytes() + bytes([1, 0, 1]))
    doubled = np.array([[0.2, 2, -4], [6, 65504, -65504]], np.float16)
    # float16 has half the bytes; inputs that are passed on do not change.
    assert stage.output_bytes == 6 + 12 + 3 + 12
    assert result == passed.tobytes() + doubled.tobytes() + bytes([0, 1, 0]) + x.tobytes()


def test_no_other_dtype_is_converted() -> None:
    for dtype in ("float64", "int16"):
        wrong = TensorSpec("x", dtype, X.shape)
        with pytest.raises(ModelLoadError, match=f"expected x {dtype}"):
            StageInterpreter(stage_file(), [MASK, wrong], [SUM], num_threads=1)
    with pytest.raises(ModelLoadError, match=r"expected mask float16"):
        StageInterpreter(
            stage_file(), [TensorSpec("mask", "float16", (3,)), X], [SUM], num_threads=1
        )


def test_by_position_the_manifests_names_replace_those_of_the_file() -> None:
    # The file's order: mask, x -> not, sum.
    renamed = [TensorSpec(name, spec.dtype, spec.shape) for name, spec in (("a", MASK), ("b", X))]
    outputs = [TensorSpec(name, spec.dtype, spec.shape) for name, spec in (("c", NOT), ("d", SUM))]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = bytes([1, 0, 0]) + x.tobytes()
    with pytest.raises(ModelLoadError):
        StageInterpreter(stage_file(), renamed, outputs, num_threads=1)
    stage = StageInterpreter(stage_file(), renamed, outputs, num_threads=1, by_position=True)
    assert stage.invoke(data) == bytes([0, 1, 1]) + (x + x).tobytes()


# State


STATE_X, STATE_OUT = (TensorSpec(name, "float32", state_models.SHAPE) for name in ("x", "out"))


def state_inputs(count: int) -> list[bytes]:
    random = np.random.default_rng(5)
    return [
        random.normal(size=state_models.SHAPE).astype(np.float32).tobytes() for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("model", "is_reset_in_place"),
    [
        (state_models.accumulator(), False),
        (state_models.svdf(), True),
        (state_models.svdf(first=2.0), False),
        (state_models.chain(), False),
        (state_models.random_numbers(5), False),
    ],
    ids=[
        *("resource variable", "variable tensor", "one that starts with a constant", "both"),
        "random generator",
    ],
)
@pytest.mark.parametrize("from_file", [True, False])
def test_state_is_reset_for_each_request_or_kept_until_start_over(
    tmp_path: Path, model: bytes, *, is_reset_in_place: bool, from_file: bool
) -> None:
    source: Path | bytes = model
    if from_file:
        source = tmp_path / "model.tflite"
        source.write_bytes(model)

    def load(state: str) -> StageInterpreter:
        return StageInterpreter(source, [STATE_X], [STATE_OUT], num_threads=1, state=state)

    payloads = state_inputs(5)
    fresh = [load("").invoke(payload) for payload in payloads]
    in_order = [once.invoke(payload) for once in [load("")] for payload in payloads]
    assert fresh[0] == in_order[0]
    assert all(one != other for one, other in zip(fresh[1:], in_order[1:], strict=True))

    reset, kept = load("reset"), load("keep")
    assert [reset.invoke(payload) for payload in payloads] == fresh
    assert [kept.invoke(payload) for payload in payloads] == in_order
    for _ in range(2):  # The second call has nothing to restore.
        reset.start_over()
        kept.start_over()
    assert [reset.invoke(payload) for payload in payloads] == fresh
    assert [kept.invoke(payload) for payload in payloads] == in_order
    loaded = reset._interpreter
    reset.invoke(payloads[0])
    reset.start_over()
    assert (reset._interpreter is loaded) == is_reset_in_place


def test_a_failed_reload_is_an_error_and_a_later_reload_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(state_models.accumulator())
    stage = StageInterpreter(path, [STATE_X], [STATE_OUT], num_threads=1, state="reset")
    payload = state_inputs(1)[0]
    first = stage.invoke(payload)
    path.rename(tmp_path / "away.tflite")
    for _ in range(2):
        with pytest.raises(ModelLoadError):
            stage.invoke(payload)
    (tmp_path / "away.tflite").rename(path)
    assert stage.invoke(payload) == first
