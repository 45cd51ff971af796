"""Read files as requests with a name for each sample, so that each answer has a name."""

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
    """One sample of a file.

    Attributes:
        name: The file's path; ``path[3]`` for the fourth sample of a file with several.
        file: The file's path.
    """

    name: str
    file: Path


@dataclass(frozen=True)
class NamedRequest:
    """The input of one inference, with the names of its samples.

    Attributes:
        inputs: Arrays by input name, of exactly the model's shapes.
        samples: Names of the samples, in order, without the copies that fill up the batch.
    """

    inputs: dict[str, np.ndarray]
    samples: tuple[SampleName, ...]

    def split(
        self, outputs: Mapping[str, np.ndarray], specs: Sequence[TensorSpec]
    ) -> list[tuple[SampleName, dict[str, np.ndarray]]]:
        """Return each sample's name and outputs.

        Outputs that cannot be split by sample are returned once, with the name "FIRST to LAST".
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
    """Read files as requests of a model with the inputs ``specs``, one after another.

    Args:
        files: The files' paths.
        specs: The model's inputs.
        on_note: Called with each note for the user about a file.
        on_error: Called with the path of a file that cannot be read to its end, and the error;
            reading continues with the next file.

    Raises:
        InputFileError: A file cannot be read or is not an input of the model, and ``on_error`` is
            None.
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
    """Yield each sample with its name, with a number if the file has several samples."""
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
