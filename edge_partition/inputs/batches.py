"""Join samples into requests, and split a request's outputs by sample. The functions are pure.

A sample is the input for one answer, such as one picture. A request is the input of one inference.
If a model takes eight pictures at once, a request consists of eight samples.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.inputs.picture_layout import picture_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from edge_core.contract.manifest import TensorSpec


def batch_size(specs: Sequence[TensorSpec]) -> int:
    """Return the number of samples in a request.

    The number is above 1 only if the leading dimensions of all inputs have the same size, and this
    size is the batch size of an input that takes pictures.
    """
    leading = {spec.shape[0] if spec.shape else 0 for spec in specs}
    layouts = [picture_layout(spec) for spec in specs]
    sizes = {layout.batch for layout in layouts if layout is not None}
    return max(1, *leading) if len(leading) == 1 and sizes == leading else 1


def sample_specs(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the specifications of one sample's inputs: ``specs`` with a batch size of 1."""
    if batch_size(specs) == 1:
        return tuple(specs)
    return tuple(replace(spec, shape=(1, *spec.shape[1:])) for spec in specs)


def batches(
    samples: Iterable[dict[str, np.ndarray]], specs: Sequence[TensorSpec]
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Join samples into requests.

    Yields:
        For each request, the arrays by input name, with the shapes of ``specs``, and the number of
        samples. If the last request has too few samples, it is filled with copies of its last
        sample. The number of samples does not include the copies.
    """
    size = batch_size(specs)
    waiting: list[dict[str, np.ndarray]] = []
    for sample in samples:
        waiting.append(sample)
        if len(waiting) == size:
            yield _joined(waiting, size)
            waiting = []
    if waiting:
        yield _joined(waiting, size)


def _joined(samples: list[dict[str, np.ndarray]], size: int) -> tuple[dict[str, np.ndarray], int]:
    if size == 1:
        return samples[0], 1
    full = samples + [samples[-1]] * (size - len(samples))
    return {name: np.concatenate([one[name] for one in full]) for name in full[0]}, len(samples)


def split_outputs(
    outputs: Mapping[str, np.ndarray], count: int, specs: Sequence[TensorSpec]
) -> list[dict[str, np.ndarray]]:
    """Split a request's outputs by sample.

    The outputs of copies, with which :func:`batches` fills a request, are dropped.

    Args:
        outputs: The request's outputs, by name.
        count: The request's number of samples, from :func:`batches`.
        specs: The model's inputs.

    Returns:
        One dict for each of the ``count`` samples, with the sample's outputs by name; the leading
        dimension of every array is 1. The outputs cannot be split if the leading dimension of an
        output is not the batch dimension. In this case, the list contains one dict, with all
        outputs unchanged.
    """
    size = batch_size(specs)
    if size == 1 or any(array.shape[:1] != (size,) for array in outputs.values()):
        return [dict(outputs)]
    return [
        {name: array[place : place + 1] for name, array in outputs.items()}
        for place in range(count)
    ]
