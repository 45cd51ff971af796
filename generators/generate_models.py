"""Write docs/models.md: every Keras application wrapped, converted, split and compared.

    python generators/generate_models.py                        # all applications not in the cache
    python generators/generate_models.py --only MobileNetV3Large --again
    python generators/generate_models.py --table                # measure nothing, use the cache

The script keeps each application's figures as JSON in docs/.cache and may be stopped and started
again. Each step runs in its own process, one model after another. The largest model needs about
13 GB of memory, and as much disk as its ``.tflite``.
"""

# ruff: noqa: ISC004 -- a script that writes paragraphs

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from write_section import write_section

from edge_core.contract.manifest import TensorSpec
from edge_core.errors import EdgePartitionError
from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_partition.tflite.graph import Graph, Tensor
    from edge_partition.tflite.read_tflite import TfliteModel

_DOCS = Path(__file__).parents[1] / "docs"
_CACHE = _DOCS / ".cache" / "models"
_SLICE_BENCHMARK = _DOCS.parent / "benchmarks" / "slice_models.py"
_PARTS = (2, 4, 8)
_PICTURES = 2
_CUT_EVERYWHERE = "MobileNetV3Large"

_BLOCKS = {
    "residuals": ("ConvNeXt", "MobileNetV2", "ResNet", "Xception"),
    "squeeze-and-excite gates": ("EfficientNet", "MobileNetV3"),
    "Inception branches": ("Inception",),
    "NASNet cells": ("NASNet",),
    "DenseNet concatenations": ("DenseNet",),
}

# Applications by the size of their weights: small ones come first and do not wait for large ones.
_SMALL_FIRST = (
    "MobileNetV3Small", "MobileNetV3Large", "NASNetMobile", "EfficientNetV2B0", "DenseNet121",
    "ConvNeXtTiny", "MobileNetV2", "MobileNet", "EfficientNetB0", "EfficientNetV2B1",
    "EfficientNetB1", "EfficientNetV2B2", "EfficientNetB2", "DenseNet169", "EfficientNetB3",
    "EfficientNetV2B3", "EfficientNetB4", "DenseNet201", "EfficientNetV2S", "Xception",
    "InceptionV3", "ResNet50", "ResNet50V2", "EfficientNetB5", "EfficientNetB6", "ResNet101",
    "ResNet101V2", "ConvNeXtSmall", "EfficientNetV2M", "InceptionResNetV2", "ResNet152",
    "ResNet152V2", "EfficientNetB7", "ConvNeXtBase", "NASNetLarge", "EfficientNetV2L", "VGG16",
    "VGG19", "ConvNeXtLarge", "ConvNeXtXLarge",
)  # fmt: skip


def list_applications() -> list[str]:
    """Return the applications' names. This loads Keras into the process."""
    from edge_partition.model import keras_setup  # noqa: F401, PLC0415

    # isort: split
    import keras  # noqa: PLC0415

    names = [name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction)]
    known = {name: place for place, name in enumerate(_SMALL_FIRST)}
    return sorted(names, key=lambda name: known.get(name, -1))


def convert(name: str, model_path: Path, pictures_path: Path) -> dict[str, Any]:
    """Write the application's ``.tflite`` and two preprocessed pictures."""
    from edge_partition.model.convert_tflite import (  # noqa: PLC0415 -- TensorFlow
        convert_tflite,
        freeze_model,
    )
    from edge_partition.model.keras_model import load_keras_model  # noqa: PLC0415
    from edge_partition.model.wrap_operations import (  # noqa: PLC0415
        wrap_operations,
        wrapped_operations,
    )

    model = load_keras_model(name, weights="seeded").model
    _, height, width, _ = model.inputs[0].shape
    wrapped = wrap_operations(model)
    operations = len(wrapped_operations(wrapped))
    began = time.perf_counter()
    frozen = freeze_model(wrapped)
    # As `load_model` does: frees Keras's weights before the conversion.
    del model, wrapped
    gc.collect()
    content = convert_tflite(frozen)
    seconds = time.perf_counter() - began
    model_path.write_bytes(content)
    preprocess = _preprocessing(name)
    # preprocess_input changes its argument; each picture is a new array.
    np.save(pictures_path, [preprocess(_picture(seed, height, width)) for seed in range(_PICTURES)])
    return {
        "input": [height, width],
        "wrapped": operations,
        "size_bytes": len(content),
        "convert_seconds": seconds,
        "convert_peak_bytes": _peak_bytes(),
    }


def split(name: str, model_path: Path, pictures_path: Path) -> dict[str, Any]:
    """Compare the model's parts with the whole."""
    model = read_tflite(model_path, name=name)
    graph = model.graph
    payloads = [picture.tobytes() for picture in np.load(pictures_path)]
    wholes = _run(model_path, graph.boundary(0), graph.boundary(len(graph.operators)), payloads)
    first, second = (np.frombuffer(whole, np.float32) for whole in wholes)
    spread = float(np.abs(first - second).max())
    if not (spread > 0 and np.isfinite(first).all() and np.isfinite(second).all()):
        raise RuntimeError(
            f"{name} gives both pictures the same output or an output that is not finite."
        )
    crossing = {cut: len(graph.boundary(cut)) for cut in graph.cuts}
    splits = {str(parts): _planned_cuts(graph, parts) for parts in _PARTS}
    splits["widths"] = _one_of_each_width(crossing)
    differences = {}
    for parts, cuts in splits.items():
        results = _run_chained(model, cuts, payloads)
        identical = results == wholes
        difference = _difference(results, wholes)
        # Bytes that differ without a numeric difference, such as the sign of 0, still count.
        differences[parts] = 0.0 if identical else max(difference, float(np.finfo("f4").tiny))
    return {
        "operators": len(graph.operators),
        "cuts": len(graph.cuts),
        "wide_cuts": sum(count > 1 for count in crossing.values()),
        "most_tensors": max(crossing.values()),
        "widths_tried": [crossing[cut] for cut in splits["widths"]],
        "splits": splits,
        "differences": differences,
        "spread": spread,
        "largest_output": float(max(first.max(), second.max())),
    }


def cut_everywhere(name: str, model_path: Path, pictures_path: Path) -> list[dict[str, Any]]:
    """Compare the two parts with the whole, for each cut position."""
    model = read_tflite(model_path, name=name)
    graph = model.graph
    payloads = [picture.tobytes() for picture in np.load(pictures_path)]
    ends = graph.boundary(0), graph.boundary(len(graph.operators))
    wholes = _run(model_path, *ends, payloads)
    rows = []
    for cut in range(1, len(graph.operators)):
        tensors = graph.boundary(cut)
        before = graph.operators[cut - 1]
        rows.append(
            {
                "cut": cut,
                "kind": before.kind,
                "layer": before.layer,
                "tensors": [
                    f"{'x'.join(map(str, tensor.shape))} {tensor.dtype}" for tensor in tensors
                ],
                "bytes": graph.boundary_bytes(cut),
                "identical": _run_chained(model, [cut], payloads) == wholes,
            }
        )
    return rows


def _preprocessing(name: str) -> Callable[[np.ndarray], np.ndarray]:
    import keras  # noqa: PLC0415

    module = sys.modules[getattr(keras.applications, name).__module__]
    return module.preprocess_input  # type: ignore[no-any-return]


def _picture(seed: int, height: int, width: int) -> np.ndarray:
    """Return coloured blocks of several sizes; noise alone would average out for each seed.

    Returns:
        float32, shape ``(1, height, width, 3)``, from 0 to 255.
    """
    generator = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for cells in (2, 8, 32, 128):
        blocks = generator.uniform(-1, 1, (cells, cells, 3))
        picture += blocks[np.arange(height) * cells // height][:, np.arange(width) * cells // width]
    picture -= picture.min()
    return (picture * (255 / picture.max())).astype(np.float32)[None]


def _planned_cuts(graph: Graph, parts: int) -> list[int]:
    plan = plan_split(graph, equal_fleet(parts), stages=parts)
    return [stage.stop for stage in plan.stages[:-1]]


def _one_of_each_width(crossing: dict[int, int]) -> list[int]:
    """Return one cut for each number of crossing tensors: the middle one of these cuts."""
    cuts: dict[int, list[int]] = {}
    for cut, count in crossing.items():
        cuts.setdefault(count, []).append(cut)
    return sorted(positions[len(positions) // 2] for positions in cuts.values())


def _run_chained(model: TfliteModel, cuts: list[int], payloads: list[bytes]) -> list[bytes]:
    graph = model.graph
    for start, stop in pairwise([0, *cuts, len(graph.operators)]):
        part = slice_model(model, start, stop)
        payloads = _run(part, graph.boundary(start), graph.boundary(stop), payloads)
    return payloads


def _run(
    model: bytes | Path, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...],
    payloads: list[bytes],
) -> list[bytes]:  # fmt: skip
    interpreter = StageInterpreter(model, _specs(inputs), _specs(outputs), num_threads=1)
    return [interpreter.invoke(payload) for payload in payloads]


def _specs(tensors: tuple[Tensor, ...]) -> list[TensorSpec]:
    return [TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]


def _difference(results: list[bytes], wholes: list[bytes]) -> float:
    return max(
        float(np.abs(np.frombuffer(result, np.float32) - np.frombuffer(whole, np.float32)).max())
        for result, whole in zip(results, wholes, strict=True)
    )


def _peak_bytes() -> int:
    # Not ru_maxrss: a process inherits the value of its parent.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure_model(name: str) -> dict[str, Any]:
    """Return an application's figures, or the reason for a failure under ``failed``."""
    with tempfile.TemporaryDirectory() as folder:
        model_path, pictures_path = Path(folder) / "model.tflite", Path(folder) / "pictures.npy"
        result: dict[str, Any] = {"name": name, "load": os.getloadavg()[0]}
        try:
            result |= in_own_process(convert, name, model_path, pictures_path)
            result |= in_own_process(split, name, model_path, pictures_path)
            benchmark = subprocess.run(
                [sys.executable, _SLICE_BENCHMARK, model_path, "--json"],
                check=True, stdout=subprocess.PIPE,
            )  # fmt: skip
            result["slicing"] = json.loads(benchmark.stdout)[0]
            if name == _CUT_EVERYWHERE:
                result["every_cut"] = in_own_process(
                    cut_everywhere, name, model_path, pictures_path
                )
        except (EdgePartitionError, RuntimeError) as error:
            result["failed"] = " ".join(str(error).split()) or type(error).__name__
        except BrokenProcessPool:
            result["failed"] = "The process was killed: the machine has too little memory."
    return result


def in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    """Return the function's result from a process of its own, which frees all memory at its end."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as process:
        return process.submit(function, *args).result()


def write_document(names: list[str]) -> None:
    """Write the applications' section of models.md from the cache."""
    found = {
        name: json.loads(path.read_text())
        for name in sorted(names)
        if (path := _CACHE / f"{name}.json").exists()
    }
    done = [result for result in found.values() if "failed" not in result]
    missing = sorted(set(names) - found.keys())
    lines = [*_introduction(names, done), *_exactness_table(found), ""]
    lines += [*_block_table(done), ""]
    if missing:
        largest = max(done, key=lambda result: result["size_bytes"])
        times = largest["convert_peak_bytes"] / largest["size_bytes"]
        lines += [
            f"**Not run yet: {', '.join(missing)}.** The conversion of {largest['name']} took "
            f"{times:.0f} times the file's size in memory; this machine has "
            f"{_memory_bytes() / 1e9:.0f} GB.",
            "",
        ]
    lines += [*_cost_table(done), ""]
    if every_cut := found.get(_CUT_EVERYWHERE, {}).get("every_cut"):
        lines += _every_cut_table(every_cut)
    write_section(_DOCS / "models.md", "applications", lines)


def _introduction(names: list[str], done: list[dict[str, Any]]) -> list[str]:
    exact = sum(max(result["differences"].values()) == 0 for result in done)
    cuts = sum(len(result["splits"]["widths"]) for result in done)
    loads = [result["load"] for result in done]
    counted = f"All {len(names)}" if len(done) == len(names) else f"{len(done)} of the {len(names)}"
    return [
        "# Every Keras application, split",
        "",
        "Written by `python generators/generate_models.py`. Change the script, not this text.",
        "",
        f"**In {exact} of {len(done)} applications, the chained parts give the whole model's "
        f"output bit for bit.** {counted} models of `keras.applications` were wrapped, converted "
        "once to float32 TFLite, and sliced.",
        "",
        "- *Model*: the documented input size, seeded weights (`--weights seeded`), and "
        f"{_PICTURES} pictures prepared by the application's own `preprocess_input`.",
        "- *Splits*: into 2, 4 and 8 parts, at the cuts of `edge-partition split --stages N`. One "
        "more chain has one cut for each number of crossing tensors that occurs in the model, "
        f"{cuts} cuts in all.",
        "- *Comparison*: a difference of 0 means that all bytes of the output are equal. The "
        "column *outputs differ by* shows that the two pictures have different outputs, so the "
        "comparison could fail.",
        "",
        f"Keras {version('keras')}, TensorFlow {_tensorflow_version()}, LiteRT "
        f"{version('ai-edge-litert')}, {os.cpu_count()} cores ({platform.machine()}). Other "
        f"programs ran at the same time (load average {min(loads):.1f} to {max(loads):.1f}): "
        "seconds are upper bounds, and seconds of CPU are closer to the times of a quiet machine.",
        "",
    ]


def _tensorflow_version() -> str:
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            return version(name)
        except ImportError:
            continue
    return "unknown"


def _exactness_table(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "## Exactness",
        "",
        "- *wide cuts*: possible cuts that more than one tensor crosses.",
        "- *widths*: the numbers of crossing tensors for which the last chain has a cut.",
        "- *outputs differ by*: the largest difference between the two pictures' scores, and the "
        "largest score.",
        "",
        _row(
            "model", "input", "wrapped operations", "TFLite operators", "possible cuts",
            "wide cuts", "in 2", "in 4", "in 8", "widths", "largest difference",
            "outputs differ by",
        ),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|",
    ]  # fmt: skip
    for name, result in found.items():
        if "failed" in result:
            lines.append(f"| {name} | {result['failed']} |" + " |" * 10)
            continue
        differences = result["differences"]
        lines.append(
            _row(
                name,
                "x".join(map(str, result["input"])),
                *(result[key] for key in ("wrapped", "operators", "cuts", "wide_cuts")),
                *(_exact(differences[str(parts)]) for parts in _PARTS),
                ", ".join(map(str, sorted(result["widths_tried"]))),
                f"{max(differences.values()):g}",
                f"{result['spread']:.2g} of {result['largest_output']:.2g}",
            )
        )
    return lines


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _exact(difference: float) -> str:
    return "exact" if difference == 0 else f"{difference:.1g}"


def _block_table(done: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Cuts through blocks",
        "",
        _row("block", "models", "most tensors across a cut", "exact there"),
        "|---|---|--:|---|",
    ]
    for block, starts in _BLOCKS.items():
        models = [result for result in done if result["name"].startswith(starts)]
        if models:
            widest = max(models, key=lambda result: result["most_tensors"])
            exact = all(result["differences"]["widths"] == 0 for result in models)
            names = ", ".join(result["name"] for result in models)
            most = f"{widest['most_tensors']} ({widest['name']})"
            lines.append(_row(block, names, most, "yes" if exact else "**no**"))
    return lines


def _cost_table(done: list[dict[str, Any]]) -> list[str]:
    slowest = max(done, key=lambda result: result["slicing"]["seconds"])
    hungriest = max(done, key=_slicing_ratio)
    largest = max(done, key=lambda result: result["convert_peak_bytes"])
    lines = [
        "## Cost",
        "",
        f"{largest['name']} needs the most memory to convert, "
        f"{largest['convert_peak_bytes'] / 1e9:.1f} GB. {slowest['name']} is the slowest to slice: "
        f"{slowest['slicing']['seconds']:.2f} s ({slowest['slicing']['cpu_seconds']:.2f} s CPU). "
        f"{hungriest['name']} needs the most memory for its size to slice, "
        f"{_slicing_ratio(hungriest):.1f} times the model.",
        "",
        "- *convert, MB*: the peak of the whole process: TensorFlow, the Keras model until its "
        "weights are frozen, and the converter.",
        "- *slice into 8*, by `benchmarks/slice_models.py`: reading and slicing in a new process. "
        "MB is the largest growth of the process, including pages of the mapped model; *times the "
        "model* is this growth over the size of the `.tflite`.",
        "",
        _row(
            "model", ".tflite, MB", "convert, s", "convert, MB", "slice into 8, s",
            "slice into 8, s of CPU", "slice into 8, MB", "times the model",
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    lines += [
        _row(
            result["name"],
            f"{result['size_bytes'] / 1e6:.1f}",
            f"{result['convert_seconds']:.1f}",
            f"{result['convert_peak_bytes'] / 1e6:.0f}",
            f"{result['slicing']['seconds']:.2f}",
            f"{result['slicing']['cpu_seconds']:.2f}",
            f"{result['slicing']['peak_bytes'] / 1e6:.0f}",
            f"{_slicing_ratio(result):.2f}",
        )
        for result in done
    ]
    return lines


def _slicing_ratio(result: dict[str, Any]) -> float:
    return float(result["slicing"]["peak_bytes"] / result["size_bytes"])


def _every_cut_table(rows: list[dict[str, Any]]) -> list[str]:
    exact = sum(row["identical"] for row in rows)
    wide = sum(len(row["tensors"]) > 1 for row in rows)
    least = min(rows, key=lambda row: row["bytes"])
    return [
        f"## {_CUT_EVERYWHERE}, cut in two everywhere",
        "",
        f"**{exact} of {len(rows)} cuts are exact.** Each row is one split in two, at one of the "
        f"{len(rows)} positions between {len(rows) + 1} operators. More than one tensor crosses at "
        f"{wide} cuts. The cut before operator {least['cut']} sends the fewest bytes, "
        f"{least['bytes']:,}.",
        "",
        _row("cut before operator", "after", "layer", "tensors that cross", "bytes", "exact"),
        "|--:|---|---|---|--:|---|",
        *(
            _row(
                row["cut"],
                row["kind"],
                row["layer"],
                f"{len(row['tensors'])}: {', '.join(row['tensors'])}",
                f"{row['bytes']:,}",
                "yes" if row["identical"] else "**no**",
            )
            for row in rows
        ),
    ]


def main() -> None:
    """Measure the applications that the options name, then write the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure only these applications")
    parser.add_argument(
        "--again", action="store_true", help="measure applications in the cache too"
    )
    parser.add_argument(
        "--table", action="store_true", help="measure nothing; write the document from the cache"
    )
    options = parser.parse_args()
    _CACHE.mkdir(parents=True, exist_ok=True)
    (_CACHE.parent / ".gitignore").write_text("*\n")
    names = in_own_process(list_applications)
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"Keras has no application {', '.join(sorted(unknown))}")
    for name in () if options.table else options.only or names:
        cached = _CACHE / f"{name}.json"
        if cached.exists() and not options.again:
            continue
        result = measure_model(name)
        cached.write_text(json.dumps(result, indent=1))
        print(name, result.get("failed") or result["differences"], flush=True)
        write_document(names)
    write_document(names)


if __name__ == "__main__":
    main()
