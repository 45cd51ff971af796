"""Compare a split model with the whole model, and the whole model with the original's answers.

    python -m people_models.compare FOLDER BUILD [BUILD ..]

FOLDER has ``inputs.npz`` and ``answers.npz`` of :mod:`people_models.prepare`. The script prints
JSON. It is a process of its own, so that a crash of the runtime's native code is a result too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.contract.tensors import decode_tensors, encode_tensors
from edge_partition.bundles.bundle import read_bundle
from edge_partition.bundles.run_bundle import chain_stages, whole_interpreter

if TYPE_CHECKING:
    from edge_core.contract.manifest import TensorSpec

Samples = list[list[tuple[str, np.ndarray]]]


def compare(folder: Path, builds: list[Path]) -> dict[str, Any]:
    """Return the largest differences.

    - ``chains``: for each build, between the chained stages' outputs and the whole's; 0 if all
      bytes are equal.
    - ``own``: between the whole's outputs and the original's; ``own_largest``: the original's
      largest value.
    - ``spread``: between the original's answers to two samples; 0 means that the comparison proves
      nothing.
    - ``order``: ``names`` or ``positions``, the key by which outputs were paired.
    """
    samples = _load(folder / "inputs.npz")
    answers = _load(folder / "answers.npz")
    first = read_bundle(builds[0])
    specs = first.manifest.inputs
    payloads = [encode_tensors(specs, _sample(specs, sample)) for sample in samples]
    whole = whole_interpreter(first)
    results = [whole.invoke(payload) for payload in payloads]
    del whole
    outputs = first.manifest.outputs
    _save(folder / "run.npz", specs, payloads)
    _save(folder / "whole.npz", outputs, results)
    decoded = [decode_tensors(outputs, payload) for payload in results]
    answers = _leave_out_repeats(answers, len(outputs))
    paired, order = _pair(outputs, answers[0])
    own, largest = 0.0, 0.0
    for sample, values in zip(answers, decoded, strict=True):
        for (_, expected), position in zip(sample, paired, strict=True):
            own = max(own, _difference(expected, values[outputs[position].name]))
            largest = max(largest, _largest(expected))
    return {
        "chains": {str(build): _chained(build, payloads, results) for build in builds},
        "own": own,
        "own_largest": largest,
        "spread": max(_difference(a[1], b[1]) for a, b in zip(answers[0], answers[1], strict=True)),
        "order": order,
        "inputs": [f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs],
        "outputs": [f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in outputs],
    }


def _load(path: Path) -> Samples:
    with np.load(path) as file:
        names = [key.partition(":")[2].replace("|", "/") for key in file.files]
        arrays = [file[key] for key in file.files]
    return [
        [(name, array[sample]) for name, array in zip(names, arrays, strict=True)]
        for sample in range(len(arrays[0]))
    ]


def _save(path: Path, specs: tuple[TensorSpec, ...], payloads: list[bytes]) -> None:
    """Write all samples in the format of ``edge-partition run``: stacked, by tensor name."""
    decoded = [decode_tensors(specs, payload) for payload in payloads]
    np.savez(path, **{spec.name: np.stack([each[spec.name] for each in decoded]) for spec in specs})


def _sample(
    specs: tuple[TensorSpec, ...], sample: list[tuple[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    named = dict(sample)
    if set(named) != {spec.name for spec in specs}:
        named = {spec.name: array for spec, (_, array) in zip(specs, sample, strict=True)}
    return {spec.name: named[spec.name].reshape(spec.shape).astype(spec.dtype) for spec in specs}


def _leave_out_repeats(answers: Samples, count: int) -> Samples:
    """Drop outputs that repeat an earlier one in every sample, if the model has fewer outputs."""
    if len(answers[0]) <= count:
        return answers
    kept: list[int] = []
    for each in range(len(answers[0])):
        if not any(
            all(sample[each][1].tobytes() == sample[other][1].tobytes() for sample in answers)
            for other in kept
        ):
            kept.append(each)
    return [[sample[each] for each in kept] for sample in answers]


def _pair(
    outputs: tuple[TensorSpec, ...], answer: list[tuple[str, np.ndarray]]
) -> tuple[list[int], str]:
    """Return the position in ``outputs`` of each array of an answer."""
    if len(outputs) != len(answer):
        raise ValueError(f"{len(answer)} outputs expected, {len(outputs)} in the manifest")
    names = [spec.name for spec in outputs]
    if len(names) > 1 and set(names) == {name for name, _ in answer}:
        return [names.index(name) for name, _ in answer], "names"
    return list(range(len(answer))), "positions"


def _chained(build: Path, payloads: list[bytes], results: list[bytes]) -> float:
    bundle = read_bundle(build)
    parts = chain_stages(bundle, payloads)
    if parts == results:
        return 0.0
    outputs = bundle.manifest.outputs
    most = max(
        _difference(decode_tensors(outputs, a)[spec.name], decode_tensors(outputs, b)[spec.name])
        for a, b in zip(parts, results, strict=True)
        for spec in outputs
    )
    # Bytes that differ without a numeric difference, such as the sign of 0, still count.
    return max(most, float(np.finfo("f4").tiny))


def _difference(expected: np.ndarray, value: np.ndarray) -> float:
    expected, value = np.asarray(expected), np.asarray(value)
    if expected.size != value.size:
        raise ValueError(f"an output of shape {expected.shape} expected, got {value.shape}")
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    difference = np.abs(
        expected.astype(wide).reshape(-1) - np.asarray(value).astype(wide).reshape(-1)
    )
    same = np.isnan(expected.astype(wide)).reshape(-1) & np.isnan(value.astype(wide)).reshape(-1)
    return float(np.where(same, 0, difference).max(initial=0))


def _largest(array: np.ndarray) -> float:
    return float(np.abs(np.asarray(array).astype(np.complex128)).max(initial=0))


if __name__ == "__main__":
    print(json.dumps(compare(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]])))
