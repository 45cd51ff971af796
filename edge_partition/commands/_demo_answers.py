"""Compare the boards' outputs with the whole model's outputs, for the inputs of the demo."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_core.contract.tensors import encode_tensors
from edge_core.errors import EdgePartitionError
from edge_partition.answers.answers import describe_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.manifest import Manifest
    from edge_partition.client.result import Result
    from edge_partition.inputs.named_requests import NamedRequest

#: ``digit-7-0042.png``: the name of the file holds the true label.
_TRUE_LABEL = re.compile(r"digit-(.+)-\d+")


class DemoError(EdgePartitionError):
    """The demo can't start, proves nothing, or found a difference."""


@dataclass(frozen=True)
class Reference:
    """The demo's inputs, and the whole model's outputs for these inputs.

    Attributes:
        requests: The inputs that were read from files; empty if the inputs are made up.
        payloads: The bytes of each input.
        outputs: The bytes of the whole model's outputs for each input.
        is_constant: Whether the whole model's outputs are the same for all inputs.
    """

    requests: tuple[NamedRequest, ...]
    payloads: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    is_constant: bool


@dataclass(frozen=True)
class Comparison:
    """The comparison of the boards' outputs with the whole model's outputs.

    Attributes:
        inputs: The number of inputs.
        identical: The number of inputs for which the two outputs are bit-identical.
        judged: Whether the answer is right, for each input with a known true label.
    """

    inputs: int
    identical: int
    judged: tuple[bool, ...]

    @property
    def accuracy(self) -> float | None:
        """The share of right answers, from 0 to 1; None if no true label is known."""
        return sum(self.judged) / len(self.judged) if self.judged else None


def compare(reference: Reference, results: Sequence[Result], manifest: Manifest) -> Comparison:
    """Compare the boards' results with the whole model's outputs."""
    identical = sum(
        encode_tensors(manifest.outputs, result.outputs) == outputs
        for result, outputs in zip(results, reference.outputs, strict=True)
    )
    judged = [
        right
        for request, result in zip(reference.requests, results, strict=False)
        for right in _judge(request, result, manifest)
    ]
    return Comparison(len(reference.payloads), identical, tuple(judged))


def check(reference: Reference, comparison: Comparison) -> None:
    """Raise an error if the comparison proves nothing or found a difference.

    Raises:
        DemoError: The whole model's outputs are the same for all inputs, or the boards' outputs
            differ from the whole model's outputs.
    """
    if reference.is_constant:
        raise DemoError(
            "The whole model gave the same outputs for every input, so equal outputs prove "
            "nothing; use a trained model and different inputs."
        )
    different = comparison.inputs - comparison.identical
    if different:
        raise DemoError(
            f"{different} of {comparison.inputs} answers differ from the whole model's answers; "
            "expected 0. This is a bug in edge-partition: report it with the model."
        )


def _judge(request: NamedRequest, result: Result, manifest: Manifest) -> list[bool]:
    """Return whether the best label is right, for each sample with a known true label."""
    judged = []
    for sample, outputs in request.split(result.outputs, manifest.inputs):
        truth = _TRUE_LABEL.fullmatch(sample.file.stem)
        best = describe_answer(manifest, outputs, top=1).labels
        if truth and best and truth[1] in manifest.model.labels:
            judged.append(truth[1] == best[0].label)
    return judged
