"""Read files as requests of a model, and name each sample after its file."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError
from edge_partition.inputs.batches import batches, split_outputs
from edge_partition.inputs.load_inputs import load_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from edge_core.contract.manifest import TensorSpec


@dataclass(frozen=True)
class SampleName:
    """The name of a sample that was read from a file.

    Attributes:
        name: The file's path. If the file has several samples, the path is followed by the sample's
            number, counted from 0, such as ``path[3]``.
        file: The file's path.
    """

    name: str
    file: Path


@dataclass(frozen=True)
class NamedRequest:
    """The input of one inference, with the names of its samples.

    Attributes:
        inputs: Arrays by input name, of exactly the model's shapes.
        samples: Names of the samples, in order. If the last sample is repeated to fill the batch,
            the copies have no names.
    """

    inputs: dict[str, np.ndarray]
    samples: tuple[SampleName, ...]

    def split(
        self, outputs: Mapping[str, np.ndarray], specs: Sequence[TensorSpec]
    ) -> list[tuple[SampleName, dict[str, np.ndarray]]]:
        """Return each sample's name, with the sample's outputs by output name.

        If the outputs cannot be split by sample, the result has one entry with all outputs. Its
        name is ``FIRST to LAST``, from the names of the first and the last sample.

        Args:
            outputs: The request's outputs, by name.
            specs: The model's inputs.
        """
        parts = split_outputs(outputs, len(self.samples), specs)
        if len(parts) == len(self.samples):
            return list(zip(self.samples, parts, strict=True))
        first, last = self.samples[0], self.samples[-1]
        return [(SampleName(f"{first.name} to {last.name}", first.file), dict(outputs))]


def named_requests(
    files: Iterable[Path],
    specs: Sequence[TensorSpec],
    *,
    on_note: Callable[[str], None] | None = None,
    on_error: Callable[[Path, EdgePartitionError], None] | None = None,
) -> Iterator[NamedRequest]:
    """Read files as requests of a model, and yield one request after another.

    Args:
        files: The files' paths.
        specs: The model's inputs.
        on_note: Called with each sentence about a file that the user should read.
        on_error: Called with a file's path and an error if the file cannot be read to its end.
            Reading then continues with the next file.

    Raises:
        InputFileError: A file cannot be read or does not fit the model's inputs, and ``on_error``
            is None.
    """
    waiting: collections.deque[SampleName] = collections.deque()

    def samples() -> Iterator[dict[str, np.ndarray]]:
        for file in files:
            try:
                for name, sample in _numbered(file, load_samples(file, specs, on_note=on_note)):
                    waiting.append(SampleName(name, file))
                    yield sample
            except EdgePartitionError as error:
                if on_error is None:
                    raise
                on_error(file, error)

    for inputs, count in batches(samples(), specs):
        yield NamedRequest(inputs, tuple(waiting.popleft() for _ in range(count)))


def _numbered(
    file: Path, samples: Iterator[dict[str, np.ndarray]]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the name and the arrays of each sample in a file.

    The name is the file's path. If the file has several samples, the sample's number follows.
    """
    first = next(samples, None)
    if first is None:
        return
    try:
        second = next(samples, None)
    except EdgePartitionError:
        yield f"{file}[0]", first
        raise
    if second is None:
        yield str(file), first
        return
    yield f"{file}[0]", first
    yield f"{file}[1]", second
    for place, sample in enumerate(samples, start=2):
        yield f"{file}[{place}]", sample
