"""The converter in a child process: same file, no crash of ours, and no child left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_partition.model.conversion_log import ConversionError
from edge_partition.model.convert_tflite import convert_tflite, freeze_model
from edge_partition.model.converter_process import ConverterProcess, _Examples
from edge_partition.model.explain_conversion import explain_crash
from edge_partition.model.seeded_weights import keras, seed_weights

layers = keras.layers


def small() -> keras.Model:
    x = keras.Input((4,), name="x")
    y = layers.Dense(8, activation="relu", name="hidden")(x)
    model = keras.Model(x, layers.Dense(2, name="out")(y), name="m")
    seed_weights(model)
    return model


def recurrent() -> keras.Model:
    x = keras.Input((6, 3), name="x")
    return keras.Model(x, layers.Dense(2)(layers.LSTM(4, name="memory")(x)), name="m")


def examples(*shape: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [[rng.uniform(-1, 1, (1, *shape)).astype(np.float32)] for _ in range(6)]


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def test_the_child_converts_to_the_same_file_and_ends(tmp_path: Path) -> None:
    model = small()
    with ConverterProcess() as converter:
        pid, folder = converter.pid, converter._folder
        converter.write_examples(iter(examples(4)))
        converter.write_model(freeze_model(model))
        content = converter.convert(quantization="int8")
    assert bytes(content) == convert_tflite(model, quantization="int8", calibration=examples(4))
    assert bytes(content) != convert_tflite(model)
    assert not is_alive(pid)
    assert not folder.exists()


def test_a_crash_of_the_converter_is_a_sentence() -> None:
    model = recurrent()
    with ConverterProcess() as converter:
        pid, folder = converter.pid, converter._folder
        converter.write_examples(examples(6, 3))
        converter.write_model(freeze_model(model))  # its loop not written out
        with pytest.raises(ConversionError) as raised:
            converter.convert(quantization="int8")
        assert converter._process is not None
        assert converter._process.returncode == -signal.SIGSEGV, "TFLite has mended it: unroll less"
    error = raised.value
    assert error.layers == ("m/memory",)
    assert (
        "m cannot be converted to TFLite: TFLite's converter crashed (SIGSEGV): it has no int8 for "
        "loops, as of layer m/memory. Build recurrent layers with unroll=True, or choose "
        "--quantize dynamic or float16." in str(error)
    )
    assert error.log_path is not None
    assert "Segmentation fault" in error.log_path.read_text()
    error.log_path.unlink()
    assert not is_alive(pid)
    assert not folder.exists()


def test_recurrent_layers_are_written_out_for_int8() -> None:
    model = recurrent()
    seed_weights(model)
    frozen = freeze_model(model, unroll=True)
    assert freeze_model(model).loops() == ("m/memory",)
    assert frozen.loops() == ()
    assert not model.get_layer("memory").unroll
    content = convert_tflite(frozen, quantization="int8", calibration=examples(6, 3))
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    found = []
    for (x,) in examples(6, 3):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    expected = model(np.concatenate([x for (x,) in examples(6, 3)])).numpy()
    scale = np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 0.2 * scale, "blind comparison"
    assert np.abs(np.concatenate(found) - expected).max() < 0.1 * scale


def test_a_long_loop_is_not_written_out() -> None:
    x = keras.Input((600, 2), name="x")
    model = keras.Model(x, layers.Dense(2)(layers.GRU(2, name="memory")(x)), name="m")
    assert freeze_model(model, unroll=True).loops() == ("m/memory",)


def test_an_error_of_the_converter_comes_through_with_its_log() -> None:
    class Odd(layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.i0(x)

    x = keras.Input((4,), name="x")
    model = keras.Model(x, Odd(name="größte Zahl")(x), name="m")
    with ConverterProcess() as converter:
        converter.write_model(freeze_model(model))
        with pytest.raises(
            ConversionError, match=r"BesselI0 in layer m/größte Zahl\. Compute windows"
        ) as raised:
            converter.convert()
    error = raised.value
    assert (error.model, error.operators, error.layers) == ("m", ("BesselI0",), ("m/größte Zahl",))
    assert error.log_path is not None
    assert "BesselI0" in error.log_path.read_text()
    assert str(error).endswith(f"The converter's log: {error.log_path}")
    error.log_path.unlink()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, None])
def test_the_child_ends_with_its_parent(end: signal.Signals | None) -> None:
    script = """
        import time
        from edge_partition.model.converter_process import ConverterProcess
        with ConverterProcess() as converter:
            print(converter.pid, converter._folder, flush=True)
            input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        try:
            assert is_alive(int(pid))
            if end is None:
                parent.stdin.write("\n")
                parent.stdin.flush()
            else:
                os.kill(parent.pid, end)
            parent.wait(30)
            assert wait_until_gone(int(pid))
            assert Path(folder).exists() == (end == signal.SIGKILL)
        finally:
            if Path(folder).exists():
                subprocess.run(["rm", "-r", folder], check=True)


def test_examples_are_read_one_at_a_time() -> None:
    size_bytes = 4_000_000
    with ConverterProcess() as converter:
        path = converter._folder / "examples.npz"
        tracemalloc.start()
        try:
            converter.write_examples([np.full(size_bytes // 4, n, np.float32)] for n in range(10))
            seen = [float(array[-1]) for (array,) in _Examples(path)]
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert seen == list(range(10))
        assert path.stat().st_size > 10 * size_bytes
        assert peak_bytes < 4 * size_bytes
        with pytest.raises(ValueError, match="allow_pickle"):
            converter.write_examples([[np.array([{}])]])


def test_a_child_that_is_killed_says_what_for() -> None:
    said = explain_crash(-signal.SIGKILL, "none", ()).reason
    assert "was killed (SIGKILL), most likely for want of memory" in said
    said = explain_crash(1, "none", (), "ModuleNotFoundError: No module named 'x'").reason
    assert "status 1 (ModuleNotFoundError: No module named 'x'). Check that TensorFlow" in said
    said = explain_crash(-signal.SIGSEGV, "float16", ("m/memory",)).reason
    assert (
        said
        == "TFLite's converter crashed (SIGSEGV) on --quantize float16. Choose another, or none."
    )


def test_no_examples_and_examples_of_another_shape_are_refused() -> None:
    model = small()
    for bad, said in (([], "no calibration example"), (examples(5), r"\(1, 5\); .* \(1, 4\)")):
        with pytest.raises(ConversionError, match=said) as raised:
            convert_tflite(model, quantization="int8", calibration=bad)
        if raised.value.log_path:
            raised.value.log_path.unlink()
