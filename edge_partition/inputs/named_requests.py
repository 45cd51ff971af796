"""Files -> requests, with the name of each sample, so that answers can be told apart."""

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
        name: The file's path; ``path[3]`` for the fourth of a file that holds several.
        file: The file.
    """

    name: str
    file: Path


@dataclass(frozen=True)
class NamedRequest:
    """What goes to the boards at once.

    Attributes:
        inputs: Arrays by input name, of exactly the model's shapes.
        samples: What they are made of, in order; what only fills a batch is not among them.
    """

    inputs: dict[str, np.ndarray]
    samples: tuple[SampleName, ...]

    def split(
        self, outputs: Mapping[str, np.ndarray], specs: Sequence[TensorSpec]
    ) -> list[tuple[SampleName, dict[str, np.ndarray]]]:
        """Return the outputs sample by sample; together where the model gives no row a sample."""
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
        files: Their paths.
        specs: The model's inputs.
        on_note: As :func:`~edge_partition.inputs.load_inputs.load_samples` takes.
        on_error: Called with a file that can't be read to its end, and why; the others go on.

    Raises:
        InputFileError: Without ``on_error``: a file can't be read, or is no input of the model.
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
    """Give each sample its name; a number only where there are several."""
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
