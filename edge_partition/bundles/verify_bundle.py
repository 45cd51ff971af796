"""The whole model against the chain of its stages, on the same inputs, bit for bit.

The stages stay loaded from one input to the next, as on a board. For a model whose requests start
from the initial state, the whole model is loaded again for each input, so a stage that kept
something of the input before gives another answer.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_core.contract.tensors import payload_bytes
from edge_core.errors import EdgePartitionError
from edge_partition.bundles.compare_inside import InsideComparison, compare_inside
from edge_partition.bundles.compare_outputs import (
    Accuracy,
    count_clamped,
    find_largest_difference,
    find_spread,
    measure_accuracy,
    share_of_same_top,
)
from edge_partition.bundles.run_bundle import (
    chain_stages,
    made_up_payloads,
    read_whole,
    run_stages,
    whole_interpreter,
)
from edge_partition.inputs.made_up_inputs import make_payloads
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_core.contract.manifest import Manifest, TensorSpec
    from edge_partition.bundles.bundle import Bundle

    _OnInput = Callable[[int, int], None]


class ComparisonError(EdgePartitionError):
    """A comparison that could not fail proves nothing."""


@dataclass(frozen=True)
class WireCost:
    """Cost of sending float16 between the stages: answers as sent against the whole model's.

    Attributes:
        max_difference: Largest absolute difference of any output element.
        same_top: Share of inputs, from 0 to 1, with an equal top class (the largest score along
            the first output's last axis); None for an output with one value per position.
        clamped: Number of values beyond float16's range, which were sent as its largest value.
        bytes_between: Bytes that one request sends between stages, in total.
        float32_bytes_between: Bytes that one request sends between stages with float32, in total.
    """

    max_difference: float
    same_top: float | None
    clamped: int
    bytes_between: int
    float32_bytes_between: int


@dataclass(frozen=True)
class Verification:
    """Result of comparing the whole model with the chain of its stages on the same inputs.

    Attributes:
        inputs: Number of inputs.
        identical: Number of inputs for which every output byte was equal, with each tensor sent
            in the model's own dtype.
        max_difference: Largest absolute difference of any output element, with each tensor sent in
            the model's own dtype.
        output_spread: Largest absolute difference between the whole model's outputs for two
            inputs. Above zero, the outputs depend on the input, so the comparison could fail.
        state: Handling of the model's state, as in the manifest; empty for a model without state.
        inside: Comparison of tensors inside the model, which vary with the input; None where
            ``output_spread`` is above zero.
        wire: Additional error of a float16 wire; None for a bundle without one.
        accuracy: Correct answers; None where no input's class is known.
    """

    inputs: int
    identical: int
    max_difference: float
    output_spread: float
    state: str = ""
    inside: InsideComparison | None = None
    wire: WireCost | None = None
    accuracy: Accuracy | None = None

    @property
    def exact(self) -> bool:
        """Whether the stages equal the whole model, bit for bit."""
        inside = self.inside
        return self.identical == self.inputs and (
            inside is None or inside.identical == inside.inputs
        )


def verify_bundle(
    bundle: Bundle,
    payloads: list[bytes] | None = None,
    *,
    count: int = 8,
    classes: Sequence[int | None] = (),
    on_input: Callable[[int, int], None] | None = None,
) -> Verification:
    """Run the whole model and the chain of stages on the same inputs; compare every bit.

    A bundle that sends float16 is run twice: with its tensors in the model's own dtypes, where
    every bit must be equal, and with float16, where the difference is the cost of the wire.

    For a model with the same answer to every input, tensors inside it are compared too
    (:mod:`edge_partition.bundles.compare_inside`).

    Args:
        bundle: The bundle to check.
        payloads: Inputs as they travel on the wire, in order; None: ``count`` inputs
            from :func:`made_up_payloads`.
        count: Number of inputs to make up.
        classes: Position of the true class in the first output for each of ``payloads``; None
            where it is not known.
        on_input: Called with (inputs done, inputs in all).

    Raises:
        ComparisonError: The whole model gives the same answer to every input, and no tensor inside
            it varies either; or it gives different answers to the same input.
        ModelLoadError: The runtime refuses a file.
    """
    manifest = bundle.manifest
    payloads = payloads or made_up_payloads(bundle, count)
    # Two more inputs give a spread even if the user gave one input, or the same input twice.
    others = list(make_payloads(read_whole(bundle), manifest.inputs, 2))
    answered = _run_whole(bundle, [*payloads, *others])
    wholes = answered[: len(payloads)]
    spread = find_spread(manifest, answered)
    unrounded = _without_rounding(bundle)
    is_rounded = unrounded.manifest != manifest
    step = _count_steps(on_input, len(payloads) * len(manifest.stages) * (1 + is_rounded))

    inside, wire = None, None
    if spread == 0:
        parts, inside = _run_and_look_inside(unrounded, payloads, others, step)
    else:
        parts = chain_stages(unrounded, payloads, on_input=step)
    answers = parts
    if is_rounded:
        wire, answers = _run_rounded(bundle, unrounded.manifest, payloads, wholes, step)
    return Verification(
        inputs=len(payloads),
        identical=sum(a == b for a, b in zip(wholes, parts, strict=True)),
        max_difference=find_largest_difference(manifest, wholes, parts),
        output_spread=spread,
        state=manifest.model.state,
        inside=inside,
        wire=wire,
        accuracy=measure_accuracy(manifest, classes, wholes, answers),
    )


def _count_steps(on_input: _OnInput | None, total: int) -> _OnInput:
    """Return a callback that counts the inputs of all runs together."""
    done = itertools.count(1)

    def step(_done: int, _total: int) -> None:
        if on_input is not None:
            on_input(next(done), total)

    return step


def _run_whole(bundle: Bundle, payloads: list[bytes]) -> list[bytes]:
    """Return the whole model's answers; the state ``reset`` needs a new interpreter per input.

    Raises:
        ComparisonError: The model gives different answers to the same input.
    """
    state, name = bundle.manifest.model.state, bundle.manifest.model.name
    if state == "reset":
        answers = [whole_interpreter(bundle).invoke(payload) for payload in payloads]
    else:
        whole = whole_interpreter(bundle)
        answers = [whole.invoke(payload) for payload in payloads]
        del whole  # Frees its memory before another is loaded.
    # A model that keeps nothing of earlier inputs gives the last input the same answer without
    # them; a model that keeps state gives the first input the same answer again.
    place = 0 if state == "keep" else -1
    if whole_interpreter(bundle).invoke(payloads[place]) != answers[place]:
        raise ComparisonError(
            f"{name} gives different answers to the same input: it draws random numbers without a "
            "seed, or keeps state in an unknown way, so a comparison proves nothing. Remove its "
            "random operations or give them a seed. If an older version wrote the bundle, split "
            "the model again."
        )
    return answers


def _run_and_look_inside(
    bundle: Bundle, payloads: list[bytes], others: list[bytes], step: _OnInput
) -> tuple[list[bytes], InsideComparison]:
    """Return the chain's answers, and the comparison of tensors inside the model.

    Raises:
        ComparisonError: No tensor inside the model varies with the input.
    """
    sent = list(run_stages(bundle, payloads, on_input=step))
    compared = compare_inside(bundle, payloads, others, sent)
    if compared is None:
        raise ComparisonError(
            f"{bundle.manifest.model.name} gives the same output for every input, and the tensors "
            "inside it are the same too, so a comparison proves nothing. Give inputs of your own: "
            "`edge-partition verify BUILD FILES`; or split a model without trained weights with "
            "--weights seeded."
        )
    return sent[-1], compared


def _run_rounded(
    bundle: Bundle,
    unrounded: Manifest,
    payloads: list[bytes],
    wholes: list[bytes],
    step: _OnInput,
) -> tuple[WireCost, list[bytes]]:
    """Return the cost of a float16 wire, and the chain's answers over this wire."""
    manifest = bundle.manifest
    clamped, answers = 0, payloads
    for stage, answers in zip(
        manifest.stages, run_stages(bundle, payloads, on_input=step), strict=True
    ):
        clamped += sum(count_clamped(manifest, stage, payload) for payload in answers)
    cost = WireCost(
        max_difference=find_largest_difference(manifest, wholes, answers),
        same_top=share_of_same_top(manifest, wholes, answers),
        clamped=clamped,
        bytes_between=_bytes_between(manifest),
        float32_bytes_between=_bytes_between(unrounded),
    )
    return cost, answers


def _without_rounding(bundle: Bundle) -> Bundle:
    """Return the bundle with every tensor sent in the model's own dtype."""
    tensors = read_tflite(bundle.whole_file).graph.tensors
    dtypes = {tensor.name: tensor.dtype for tensor in tensors}

    def widen(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, dtype=dtypes.get(spec.name, spec.dtype)) for spec in specs)

    manifest = bundle.manifest
    stages = tuple(
        replace(stage, inputs=widen(stage.inputs), outputs=widen(stage.outputs))
        for stage in manifest.stages
    )
    return replace(bundle, manifest=replace(manifest, stages=stages))


def _bytes_between(manifest: Manifest) -> int:
    return sum(payload_bytes(stage.inputs) for stage in manifest.stages[1:])
