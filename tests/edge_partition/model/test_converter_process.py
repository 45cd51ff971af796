"""The converter in a child process: the same file, no crash of the parent, no child left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_partition.model import converter_process
from edge_partition.model.conversion_log import ConversionError
from edge_partition.model.convert_tflite import convert_tflite, freeze_model
from edge_partition.model.converter_process import ConverterProcess, _Examples, kept_converter
from edge_partition.model.explain_conversion import explain_crash
from edge_partition.model.seeded_weights import keras, seed_weights

layers = keras.layers


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keeper: each model has its own child, as in a command."""
    monkeypatch.setattr(converter_process, "_thread_data", threading.local())


@pytest.fixture
def kept() -> None:
    """The kept child of the whole test run, which may have converted other models before."""
    assert converter_process._current_keeper() is not None


@pytest.fixture(params=["alone", "kept"])
def either(request: pytest.FixtureRequest) -> str:
    """A child that ends with its model, and one that is kept."""
    request.getfixturevalue(request.param)
    return str(request.param)


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


def convert(model: keras.Model, **options: Any) -> tuple[int, bytes]:
    """Convert in a child; return its process id and the file."""
    with ConverterProcess() as converter:
        converter.write_model(freeze_model(model))
        return converter.pid, bytes(converter.convert(**options))


class Odd(layers.Layer):
    def call(self, x: Any) -> Any:
        return keras.ops.i0(x)


def odd() -> keras.Model:
    x = keras.Input((4,), name="x")
    return keras.Model(x, Odd(name="größte Zahl")(x), name="m")


def test_the_child_converts_to_the_same_file_and_ends(either: str) -> None:
    model = small()
    with ConverterProcess() as converter:
        pid, folder = converter.pid, converter._folder
        converter.write_examples(iter(examples(4)))
        converter.write_model(freeze_model(model))
        content = converter.convert(quantization="int8")
        # A child that is not kept ends with the conversion, before the block ends.
        assert is_alive(pid) == (either == "kept")
    assert bytes(content) == convert_tflite(model, quantization="int8", calibration=examples(4))
    assert bytes(content) != convert_tflite(model)
    assert is_alive(pid) == (either == "kept")
    assert not folder.exists()


def test_a_kept_child_converts_several_models_to_the_bytes_of_single_children(
    monkeypatch: pytest.MonkeyPatch, kept: None
) -> None:
    models = small(), recurrent(), small()
    pids, files = zip(*map(convert, models), strict=True)
    assert len(set(pids)) == 1
    assert files[0] == files[2] != files[1]
    monkeypatch.setattr(converter_process, "_thread_data", threading.local())
    alone_pids, alone_files = zip(*map(convert, models[:2]), strict=True)
    assert len({*alone_pids, *pids}) == 3
    assert not any(map(is_alive, alone_pids))
    assert alone_files == files[:2]


def test_a_kept_child_ends_with_the_block_that_keeps_it(alone: None) -> None:
    with kept_converter():
        pid, _ = convert(small())
        with kept_converter():
            assert convert(small())[0] == pid
        assert is_alive(pid)
        assert convert(small())[0] == pid
    assert not is_alive(pid)
    with ConverterProcess() as converter:
        assert converter.pid != pid
        pid = converter.pid
    assert not is_alive(pid)


def test_a_child_without_a_model_serves_the_next_block(kept: None) -> None:
    with ConverterProcess() as converter:
        pid = converter.pid
    assert convert(small()) == (pid, convert_tflite(small()))


def test_a_kept_child_serves_one_thread_and_one_model_at_a_time(kept: None) -> None:
    with ConverterProcess() as first, ConverterProcess() as second:
        assert first.pid != second.pid
        others: list[int] = []

        def convert_elsewhere() -> None:
            with ConverterProcess() as third:
                others.append(third.pid)

        thread = threading.Thread(target=convert_elsewhere)
        thread.start()
        thread.join()
        pids = {first.pid, second.pid, *others}
    assert len(pids) == 3
    assert not is_alive(others[0])
    assert sum(map(is_alive, pids)) == 1
    with ConverterProcess() as converter:
        assert converter.pid in pids


def test_a_kept_child_that_has_not_finished_is_replaced(kept: None) -> None:
    with ConverterProcess() as converter:
        stopped, child = converter.pid, converter._child
        converter.write_model(freeze_model(small()))
        os.kill(stopped, signal.SIGSTOP)

        def interrupt(*_: object) -> None:
            if child is not None and child._is_busy:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
            with pytest.raises(KeyboardInterrupt):
                converter.convert()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert not is_alive(stopped)
    with ConverterProcess() as converter:
        assert converter.pid != stopped
        assert is_alive(converter.pid)


def test_a_kept_child_that_was_killed_is_replaced(kept: None) -> None:
    with ConverterProcess() as converter:
        killed = converter.pid
    os.kill(killed, signal.SIGKILL)
    assert wait_until_gone(killed)
    pid, content = convert(small())
    assert pid != killed
    assert content == convert_tflite(small())


def test_a_kept_child_gives_its_memory_back(kept: None) -> None:
    def wide() -> keras.Model:
        x = keras.Input((2000,), name="x")
        return keras.Model(x, layers.Dense(8000, name="wide")(x), name="m")

    def resident_bytes(pid: int) -> int:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    weights_bytes = 2000 * 8000 * 4
    pid, _ = convert(small())
    before = resident_bytes(pid)
    for _ in range(2):
        assert convert(wide())[0] == pid
    with ConverterProcess() as converter:
        assert converter.pid == pid
        deadline = time.monotonic() + 30
        while resident_bytes(pid) > before + weights_bytes and time.monotonic() < deadline:
            time.sleep(0.05)
        assert resident_bytes(pid) < before + weights_bytes


def test_a_crash_of_the_converter_is_explained(either: str) -> None:
    model = recurrent()
    served = convert(small())[0] if either == "kept" else 0
    with ConverterProcess() as converter:
        pid, folder = converter.pid, converter._folder
        converter.write_examples(examples(6, 3))
        converter.write_model(freeze_model(model))  # the loop is not unrolled
        with pytest.raises(ConversionError) as raised:
            converter.convert(quantization="int8")
        assert served in {0, pid}
        assert converter._child is not None
        assert converter._child.process.returncode == -signal.SIGSEGV, (
            "TFLite no longer crashes: unroll_layers may be obsolete"
        )
    error = raised.value
    assert error.layers == ("m/memory",)
    assert (
        "m cannot be converted to TFLite: TFLite's converter crashed (SIGSEGV): int8 does not "
        "support loops, but layer m/memory contains a loop. Build recurrent layers with "
        "unroll=True, or choose --quantize dynamic or float16." in str(error)
    )
    assert error.log_path is not None
    assert "Segmentation fault" in error.log_path.read_text()
    error.log_path.unlink()
    assert not is_alive(pid)
    assert not folder.exists()
    if either == "kept":
        again, content = convert(small())
        assert again != pid
        assert content == convert_tflite(small())


def test_recurrent_layers_are_unrolled_for_int8() -> None:
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


def test_a_long_loop_is_not_unrolled() -> None:
    x = keras.Input((600, 2), name="x")
    model = keras.Model(x, layers.Dense(2)(layers.GRU(2, name="memory")(x)), name="m")
    assert freeze_model(model, unroll=True).loops() == ("m/memory",)


def test_an_error_of_the_converter_is_passed_on_with_its_log(either: str) -> None:
    with ConverterProcess() as converter:
        pid = converter.pid
        converter.write_model(freeze_model(odd()))
        with pytest.raises(
            ConversionError, match=r"BesselI0 in layer m/größte Zahl\. Compute window functions"
        ) as raised:
            converter.convert()
    error = raised.value
    assert (error.model, error.operators, error.layers) == ("m", ("BesselI0",), ("m/größte Zahl",))
    assert error.log_path is not None
    assert "BesselI0" in error.log_path.read_text()
    assert str(error).endswith(f"The converter's log: {error.log_path}")
    error.log_path.unlink()
    if either == "kept":
        assert convert(small()) == (pid, convert_tflite(small()))


def test_a_log_has_the_output_for_its_own_model_only(kept: None, tmp_path: Path) -> None:
    """A child that reported an error prints more, outside the converter's log, and then crashes."""
    with ConverterProcess() as converter:
        pid = converter.pid
        converter.write_model(freeze_model(odd()))
        with pytest.raises(ConversionError) as first:
            converter.convert()
        assert converter._child is not None
        log = converter._child._log
        os.write(log.fileno(), b"of the first model\n")
        assert b"of the first model" in converter._child.output()
    with ConverterProcess() as converter:
        assert converter.pid == pid
        converter.write_model(freeze_model(small()))
        # The child prints a traceback, because its model is missing.
        (converter._folder / "model.json").unlink()
        with pytest.raises(ConversionError, match=r"status 1 .FileNotFoundError") as second:
            converter.convert()
    logs = []
    for error in (first.value, second.value):
        assert error.log_path is not None
        logs.append(error.log_path.read_text())
        error.log_path.unlink()
    assert "BesselI0" in logs[0]
    assert "Traceback" not in logs[0]
    assert "BesselI0" not in logs[1]
    assert "of the first model" not in logs[1]
    assert logs[1].startswith("Traceback")


@pytest.mark.parametrize("keeping", ["alone", "kept"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, None])
def test_the_child_ends_with_its_parent(end: signal.Signals | None, keeping: str) -> None:
    scripts = {
        "alone": """
            from edge_partition.model.converter_process import ConverterProcess
            with ConverterProcess() as converter:
                print(converter.pid, converter._folder, flush=True)
                input()
        """,
        "kept": """
            from edge_partition.model.converter_process import ConverterProcess, kept_converter
            with kept_converter():
                with ConverterProcess() as converter:
                    facts = converter.pid, converter._folder
                print(*facts, flush=True)
                input()
        """,
    }
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(scripts[keeping])],
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
            assert Path(folder).exists() == (end == signal.SIGKILL and keeping == "alone")
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


def test_the_end_of_a_child_is_explained_by_its_status() -> None:
    said = explain_crash(-signal.SIGKILL, "none", ()).reason
    assert "was killed (SIGKILL), most likely because memory ran out" in said
    said = explain_crash(1, "none", (), "ModuleNotFoundError: No module named 'x'").reason
    assert "status 1 (ModuleNotFoundError: No module named 'x'). Check that TensorFlow" in said
    said = explain_crash(-signal.SIGSEGV, "float16", ("m/memory",)).reason
    assert (
        said == "TFLite's converter crashed (SIGSEGV) with --quantize float16. Choose another "
        "quantization, or leave --quantize out."
    )


def test_no_examples_and_examples_of_another_shape_are_refused() -> None:
    model = small()
    for bad, said in (([], "no calibration examples"), (examples(5), r"\(1, 5\); .* \(1, 4\)")):
        with pytest.raises(ConversionError, match=said) as raised:
            convert_tflite(model, quantization="int8", calibration=bad)
        if raised.value.log_path:
            raised.value.log_path.unlink()
