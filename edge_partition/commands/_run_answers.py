"""Make the answers that ``edge-partition run`` shows, one for each sample in the input files."""

from __future__ import annotations

import collections
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_partition.answers.answers import describe_answer
from edge_partition.client.result import Result
from edge_partition.inputs.named_requests import named_requests
from edge_partition.inputs.picture_size import file_picture_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from edge_core.contract.manifest import Manifest
    from edge_core.errors import EdgePartitionError
    from edge_partition.answers.answers import Answer
    from edge_partition.client.pipeline import Pipeline
    from edge_partition.client.stream_report import StreamTimes
    from edge_partition.inputs.named_requests import NamedRequest, SampleName


@dataclass(frozen=True)
class Failed:
    """The name of an input that got no answer, and the error."""

    name: str
    error: EdgePartitionError


@dataclass(frozen=True)
class Answered:
    """A sample with its answer.

    Attributes:
        sample: The sample's name and file.
        answer: Labels, boxes or values, for people and for ``--json``.
        latency_ms: The latency of the sample's request, in milliseconds.
        outputs: The model's outputs for the sample, by name.
    """

    sample: SampleName
    answer: Answer
    latency_ms: float
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class AnswerMaker:
    """Makes answers from results.

    Attributes:
        manifest: The deployment's manifest.
        top: The largest number of labels in an answer.
        min_score: Lower bound on a box's score. Boxes with a lower score are left out.
    """

    manifest: Manifest
    top: int
    min_score: float

    def of(self, request: NamedRequest, result: Result) -> Iterator[Answered]:
        """Yield the answer to each sample of a request."""
        manifest = self.manifest
        for sample, outputs in request.split(result.outputs, manifest.inputs):
            size = file_picture_size(sample.file) if manifest.model.detections else None
            answer = describe_answer(
                manifest, outputs, top=self.top, picture_size=size, min_score=self.min_score
            )
            yield Answered(sample, answer, result.latency_ms, outputs)


def stream_answers(
    pipeline: Pipeline,
    files: Sequence[Path],
    answers: AnswerMaker,
    times: StreamTimes,
    *,
    on_note: Callable[[str], None],
) -> Iterator[Answered | Failed]:
    """Send the inputs in files through a pipeline; yield each input's answer or error, in order.

    Args:
        pipeline: The connection to the deployment.
        files: The files with the inputs.
        answers: Makes the answers from the results.
        times: Collects the times of each result.
        on_note: Called with each note about a file.

    Raises:
        RequestError: No further request can succeed.
    """
    sent: collections.deque[NamedRequest | Failed] = collections.deque()

    def fail(file: Path, error: EdgePartitionError) -> None:
        sent.append(Failed(str(file), error))

    def inputs() -> Iterator[dict[str, np.ndarray]]:
        specs = answers.manifest.inputs
        for request in named_requests(files, specs, on_note=on_note, on_error=fail):
            sent.append(replace(request, inputs={}))
            yield request.inputs

    for result in pipeline.stream(inputs(), on_error="yield"):
        while isinstance(request := sent.popleft(), Failed):
            yield request
        if isinstance(result, Result):
            times.add(result)
            yield from answers.of(request, result)
        else:
            for sample in request.samples:
                yield Failed(sample.name, result)
    for left in sent:
        if isinstance(left, Failed):
            yield left
