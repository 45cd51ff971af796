"""Compare the whole model with the chain of its stages on the same inputs, bit for bit.

The stages stay loaded from one input to the next, as on a board. If each request must start from
the model's initial state, the whole model is loaded again for each input. A stage that wrongly
keeps something of an earlier input then gives a different answer from the whole model.
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
    """A comparison is refused, because its result would prove nothing."""


@dataclass(frozen=True)
class WireCost:
    """What float16 between the stages changes: the answers, and the bytes of a request.

    Attributes:
        max_difference: Largest absolute difference between the answer of the stages and the whole
            model's answer to the same input, over all output elements and inputs.
        same_top: Share of inputs, from 0 to 1, for which the stages and the whole model have the
            same top class: the index of the largest score along the last axis of the first output.
            None if this axis has fewer than two scores.
        clamped: Number of values beyond float16's range. Each was sent as the largest float16
            value, with its sign.
        bytes_between: Bytes that one request sends between stages, in total.
        float32_bytes_between: Bytes that one request would send between stages without float16, in
            total.
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
        identical: Number of inputs for which the outputs of the stages and of the whole model were
            bit-identical. The stages sent each tensor in the model's own dtype.
        max_difference: Largest absolute difference between the answer of the stages and the whole
            model's answer to the same input, over all output elements and inputs. The stages sent
            each tensor in the model's own dtype.
        output_spread: Largest absolute difference between the whole model's answer to the first
            input and its answers to other inputs. A value above zero shows that the answers depend
            on the input. A comparison of the answers can then detect an error.
        state: ``reset`` if each request starts from the model's initial state. ``keep`` if a
            request continues from the previous request's state. Empty for a model without state.
        inside: Comparison of tensors inside the model. None if ``output_spread`` is above zero,
            because the comparison of the outputs is enough then.
        wire: What float16 between the stages changes. None for a bundle without float16.
        accuracy: Numbers of correct answers. None if no input's class is known, or if the model
            does not give one class per input.
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
        """Whether the stages and the whole model gave bit-identical values for every input.

        The values are the outputs and, if ``inside`` is not None, the tensors inside the model.
        """
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

    The stages of a bundle that sends float16 run twice. The first run sends tensors in the model's
    own dtypes, so every bit must be equal. The second run sends float16 and measures how much the
    answers change.

    If the model gives the same answer to every input, tensors inside the model are compared too
    (:mod:`edge_partition.bundles.compare_inside`).

    Args:
        bundle: The bundle to check.
        payloads: Inputs as request payloads, in order. None: ``count`` inputs from
            :func:`made_up_payloads`.
        count: Number of inputs if ``payloads`` is None.
        classes: For each of ``payloads``, the index of the true class along the last axis of the
            first output, or None if the class is not known. Empty if no class is known.
        on_input: Called after each inference of a stage, with the number of inferences done and the
            total number of inferences.

    Raises:
        BundleError: ``payloads`` is None and the bundle's sample can't be used.
        ComparisonError: The whole model gives different answers to the same input. Or the model
            gives the same answer to every input, and no tensor inside the model varies either.
        ModelLoadError: The TFLite runtime refuses a file of the bundle.
    """
    manifest = bundle.manifest
    payloads = payloads or made_up_payloads(bundle, count)
    # Two more inputs show whether answers vary, even if the user gave a single input.
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
    """Return a callback that counts the inferences across several runs.

    The callback ignores its arguments, and calls ``on_input`` with the count and ``total``.
    """
    done = itertools.count(1)

    def step(_done: int, _total: int) -> None:
        if on_input is not None:
            on_input(next(done), total)

    return step


def _run_whole(bundle: Bundle, payloads: list[bytes]) -> list[bytes]:
    """Return the whole model's answer to each input.

    If each request starts from the model's initial state, each input gets a new interpreter.

    Raises:
        ComparisonError: The model gives different answers to the same input.
    """
    state, name = bundle.manifest.model.state, bundle.manifest.model.name
    if state == "reset":
        answers = [whole_interpreter(bundle).invoke(payload) for payload in payloads]
    else:
        whole = whole_interpreter(bundle)
        answers = [whole.invoke(payload) for payload in payloads]
        del whole  # Free the interpreter's memory before the next interpreter is loaded.
    # One answer is computed again in a new interpreter and must be equal. If the model keeps state,
    # it is the first answer, because later answers depend on earlier inputs. Otherwise it is the
    # last answer, which shows whether earlier inputs have an effect.
    place = 0 if state == "keep" else -1
    if whole_interpreter(bundle).invoke(payloads[place]) != answers[place]:
        raise ComparisonError(
            f"{name} gives different answers to the same input, so a comparison with its stages "
            "proves nothing. The model draws random numbers without a seed, or keeps state that "
            "edge-partition does not recognize. Remove the model's random operations, or give them "
            "a seed. If an older version of edge-partition wrote the bundle, split the model again."
        )
    return answers


def _run_and_look_inside(
    bundle: Bundle, payloads: list[bytes], others: list[bytes], step: _OnInput
) -> tuple[list[bytes], InsideComparison]:
    """Run the chain of stages, and compare tensors inside the model.

    Returns:
        The chain's answer to each of ``payloads``, and the result of the comparison.

    Raises:
        ComparisonError: No tensor inside the model varies with the input.
    """
    sent = list(run_stages(bundle, payloads, on_input=step))
    compared = compare_inside(bundle, payloads, others, sent)
    if compared is None:
        raise ComparisonError(
            f"{bundle.manifest.model.name} gives the same output for every input, and the tensors "
            "inside the model do not vary either, so a comparison with its stages proves nothing. "
            "Give inputs of your own with `edge-partition verify BUILD FILES`. If the model has no "
            "trained weights, split the model again with --weights seeded."
        )
    return sent[-1], compared


def _run_rounded(
    bundle: Bundle,
    unrounded: Manifest,
    payloads: list[bytes],
    wholes: list[bytes],
    step: _OnInput,
) -> tuple[WireCost, list[bytes]]:
    """Run the chain of stages with float16 between the stages.

    Returns:
        What float16 changes, and the chain's answer to each of ``payloads``.
    """
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
    """Return a copy of the bundle whose stages send every tensor in the model's own dtype."""
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
