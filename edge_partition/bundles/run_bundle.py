"""A bundle run on this machine: the whole model, and the chain of its stages.

Both go through the interpreter module that the boards use, so what is compared here is what a
board computes. The stages stay loaded from one input to the next, as on a board; of a model whose
requests start from the initial state, the whole is loaded anew for each: what a stage kept of the
input before would show.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_core.contract.narrow_floats import FLOAT16_MAX
from edge_core.contract.tensors import decode_tensors, payload_bytes
from edge_core.errors import EdgePartitionError
from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.bundles.compare_inside import InsideComparison, compare_inside
from edge_partition.inputs.made_up_inputs import make_payloads
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_core.contract.manifest import Manifest, Stage, TensorSpec
    from edge_partition.bundles.bundle import Bundle
    from edge_partition.tflite.read_tflite import TfliteModel


class ComparisonError(EdgePartitionError):
    """A comparison that could not fail proves nothing."""


@dataclass(frozen=True)
class WireCost:
    """What sending float16 between the stages costs: answers as sent against the whole model's.

    Attributes:
        max_difference: The largest absolute difference of any output element.
        same_top: The share of inputs whose top class (the largest along the first output's last
            axis) is the same; None where that output has one value a place.
        clamped: How many values were beyond float16's range and were sent as its largest.
        bytes_between: What one request sends from stage to stage, in all.
        float32_bytes_between: The same with float32.
    """

    max_difference: float
    same_top: float | None
    clamped: int
    bytes_between: int
    float32_bytes_between: int


@dataclass(frozen=True)
class Accuracy:
    """How many of the inputs whose class is known were answered right.

    Attributes:
        inputs: How many those are.
        whole_right: By the whole model.
        parts_right: By the chain of stages, as its tensors are sent.
    """

    inputs: int
    whole_right: int
    parts_right: int


@dataclass(frozen=True)
class Verification:
    """Whole model against the chain of its stages, on the same inputs.

    Attributes:
        inputs: How many inputs were tried.
        identical: For how many every output byte was the same, with each tensor sent as it is.
        max_difference: The largest absolute difference of any output element, likewise.
        output_spread: The largest absolute difference between the outputs of two inputs. Above
            zero a difference would have shown.
        state: What becomes of the model's state, as the manifest says; empty: it keeps none.
        inside: Where ``output_spread`` is zero: the comparison of tensors inside the model, which
            vary.
        wire: What a float16 wire costs on top; None for a bundle without one.
        accuracy: None where no input's class is known.
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
        """Whether parts equal the whole, bit for bit."""
        inside = self.inside
        return self.identical == self.inputs and (
            inside is None or inside.identical == inside.inputs
        )


def whole_interpreter(bundle: Bundle, *, num_threads: int = 1) -> StageInterpreter:
    """Load the whole model."""
    manifest = bundle.manifest
    return StageInterpreter(
        bundle.whole_file,
        manifest.inputs,
        manifest.outputs,
        num_threads=num_threads,
        by_position=True,
        state=manifest.model.state,
    )


def stage_interpreter(bundle: Bundle, stage: Stage, *, num_threads: int = 1) -> StageInterpreter:
    """Load one stage."""
    return StageInterpreter(
        bundle.stage_file(stage),
        stage.inputs,
        bundle.manifest.sent_by(stage.index),
        num_threads=num_threads,
        state=bundle.manifest.state_of(stage),
    )


def made_up_payloads(bundle: Bundle, count: int) -> list[bytes]:
    """Return ``count`` inputs as they travel: the person's sample first, then seeded ones.

    Raises:
        BundleError: The sample is damaged.
    """
    sample = bundle.sample()
    given = [] if sample is None else [sample]
    left = max(0, count - len(given))
    return [*given, *make_payloads(_read_whole(bundle), bundle.manifest.inputs, left)][:count]


def verify_bundle(
    bundle: Bundle,
    payloads: list[bytes] | None = None,
    *,
    count: int = 8,
    classes: Sequence[int | None] = (),
    on_input: Callable[[int, int], None] | None = None,
) -> Verification:
    """Run the whole and the chain of stages on the same inputs and compare every bit.

    A bundle that sends float16 is run twice: with its tensors sent as they are, where every bit
    must be the same, and as it sends them, where the difference is what the wire costs.

    Where the model answers the same for every input, what varies inside it is compared too
    (:mod:`edge_partition.bundles.compare_inside`).

    Args:
        bundle: What to check.
        payloads: Inputs as they travel on the wire, in order; None: ``count`` of
            :func:`made_up_payloads`.
        count: How many made-up inputs.
        classes: For each of ``payloads`` the position of its true class in the first output, as
            far as it is known.
        on_input: Called with (inputs done, inputs in all).

    Raises:
        ComparisonError: The whole model answers the same for every input, and nothing inside it
            varies either; or it answers one input differently from one time to the next.
        ModelLoadError: The runtime refuses a file.
    """
    manifest = bundle.manifest
    payloads = payloads or made_up_payloads(bundle, count)
    # Also where only one input was given, or the same one twice.
    others = list(make_payloads(_read_whole(bundle), manifest.inputs, 2))
    answered = _run_whole(bundle, [*payloads, *others])
    wholes = answered[: len(payloads)]
    spread = max(_difference(manifest, wholes[0], payload) for payload in answered)
    unrounded = _sent_as_they_are(bundle)
    is_rounded = unrounded.manifest != manifest
    total = len(payloads) * len(manifest.stages) * (1 + is_rounded)
    done = itertools.count(1)

    def step(_done: int, _total: int) -> None:
        if on_input is not None:
            on_input(next(done), total)

    inside = None
    if spread == 0:
        sent = list(_run_stages(unrounded, payloads, on_input=step))
        parts = sent[-1]
        inside = _compare_inside(unrounded, payloads, others, sent)
    else:
        parts = chain_stages(unrounded, payloads, on_input=step)
    wire, answers = None, parts
    if is_rounded:
        wire, answers = _run_rounded(bundle, unrounded.manifest, payloads, wholes, step)
    return Verification(
        inputs=len(payloads),
        identical=sum(a == b for a, b in zip(wholes, parts, strict=True)),
        max_difference=_largest_difference(manifest, wholes, parts),
        output_spread=spread,
        state=manifest.model.state,
        inside=inside,
        wire=wire,
        accuracy=_accuracy(manifest, classes, wholes, answers),
    )


def _run_rounded(
    bundle: Bundle,
    unrounded: Manifest,
    payloads: list[bytes],
    wholes: list[bytes],
    step: Callable[[int, int], None],
) -> tuple[WireCost, list[bytes]]:
    """Return what a float16 wire costs, and the answers over it."""
    manifest = bundle.manifest
    clamped, answers = 0, payloads
    for stage, answers in zip(
        manifest.stages, _run_stages(bundle, payloads, on_input=step), strict=True
    ):
        clamped += sum(_count_clamped(manifest, stage, payload) for payload in answers)
    cost = WireCost(
        max_difference=_largest_difference(manifest, wholes, answers),
        same_top=_same_top(manifest, wholes, answers),
        clamped=clamped,
        bytes_between=_bytes_between(manifest),
        float32_bytes_between=_bytes_between(unrounded),
    )
    return cost, answers


def _compare_inside(
    bundle: Bundle, payloads: list[bytes], others: list[bytes], sent: list[list[bytes]]
) -> InsideComparison:
    compared = compare_inside(bundle, payloads, others, sent)
    if compared is None:
        raise ComparisonError(
            f"{bundle.manifest.model.name} gives the same output for every input, and so do the "
            "tensors inside it, so comparing proves nothing. Give inputs of your own: "
            "`edge-partition verify BUILD FILES`; or, of a model without trained weights, split it "
            "with --weights seeded."
        )
    return compared


def _read_whole(bundle: Bundle) -> TfliteModel:
    return read_tflite(bundle.whole_file, name=bundle.manifest.model.name)


def _run_whole(bundle: Bundle, payloads: list[bytes]) -> list[bytes]:
    """Return the whole model's answers: of an interpreter that was just made, or fed in order."""
    state, name = bundle.manifest.model.state, bundle.manifest.model.name
    if state == "reset":
        answers = [whole_interpreter(bundle).invoke(payload) for payload in payloads]
    else:
        whole = whole_interpreter(bundle)
        answers = [whole.invoke(payload) for payload in payloads]
        del whole  # Frees its memory before another is loaded.
    # What kept nothing of the inputs before answers the last of them alike without those.
    place = 0 if state == "keep" else -1
    if whole_interpreter(bundle).invoke(payloads[place]) != answers[place]:
        raise ComparisonError(
            f"{name} answers one input differently from one time to the next: it draws random "
            "numbers without a seed, or keeps state in a way that is not known here, so comparing "
            "proves nothing. Leave its random operations out or give them a seed; a bundle that an "
            "older version made is to be split again."
        )
    return answers


def chain_stages(
    bundle: Bundle,
    payloads: list[bytes],
    *,
    on_input: Callable[[int, int], None] | None = None,
) -> list[bytes]:
    """Run every payload through all stages, one stage in memory at a time."""
    sent = payloads
    for sent in _run_stages(bundle, payloads, on_input=on_input):  # noqa: B007
        pass
    return sent


def _run_stages(
    bundle: Bundle, payloads: list[bytes], *, on_input: Callable[[int, int], None] | None
) -> Iterator[list[bytes]]:
    """Yield what each stage in turn sends for every payload."""
    stages = bundle.manifest.stages
    for position, stage in enumerate(stages):
        interpreter = stage_interpreter(bundle, stage)
        outputs = []
        for number, payload in enumerate(payloads):
            outputs.append(interpreter.invoke(payload))
            if on_input is not None:
                on_input(position * len(payloads) + number + 1, len(stages) * len(payloads))
        payloads = outputs
        yield payloads


def reference_payloads(bundle: Bundle) -> list[bytes]:
    """Return what crosses each boundary for one input: stage inputs, then the outputs.

    The input is the person's sample where there is one, else made up; no state comes before it.
    """
    (payload,) = made_up_payloads(bundle, 1)
    return [payload, *(sent for (sent,) in _run_stages(bundle, [payload], on_input=None))]


def _sent_as_they_are(bundle: Bundle) -> Bundle:
    """Return the bundle with every tensor sent in the dtype that it has in the model."""
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


def _count_clamped(manifest: Manifest, stage: Stage, payload: bytes) -> int:
    """Count the values at float16's limit among the tensors that the stage made."""
    sent = decode_tensors(manifest.sent_by(stage.index), payload)
    passed_on = {spec.name for spec in stage.inputs}
    return sum(
        int(np.count_nonzero(np.abs(values) == FLOAT16_MAX))
        for name, values in sent.items()
        if values.dtype == np.float16 and name not in passed_on
    )


def _top(manifest: Manifest, payload: bytes) -> list[int]:
    """Return the first output's largest position along its last axis, for each of its places.

    Empty where it has one value a place, which says nothing of classes.
    """
    scores = decode_tensors(manifest.outputs, payload)[manifest.outputs[0].name]
    if not scores.ndim or scores.shape[-1] < 2:  # noqa: PLR2004 - classes to choose between
        return []
    return [int(place) for place in scores.argmax(axis=-1).reshape(-1)]


def _same_top(manifest: Manifest, wholes: list[bytes], answers: list[bytes]) -> float | None:
    tops = [
        (_top(manifest, whole), _top(manifest, answer))
        for whole, answer in zip(wholes, answers, strict=True)
    ]
    if not tops[0][0]:
        return None
    return sum(expected == found for expected, found in tops) / len(tops)


def _accuracy(
    manifest: Manifest,
    classes: Sequence[int | None],
    wholes: list[bytes],
    answers: list[bytes],
) -> Accuracy | None:
    judged = [
        ([truth], _top(manifest, whole), _top(manifest, answer))
        for truth, whole, answer in zip(classes, wholes, answers, strict=bool(classes))
        if truth is not None
    ]
    # One class an input, or the labels are those of something else, such as pixels.
    if not judged or len(judged[0][1]) != 1:
        return None
    return Accuracy(
        inputs=len(judged),
        whole_right=sum(truth == whole for truth, whole, _ in judged),
        parts_right=sum(truth == answer for truth, _, answer in judged),
    )


def _largest_difference(manifest: Manifest, first: list[bytes], second: list[bytes]) -> float:
    return max(_difference(manifest, a, b) for a, b in zip(first, second, strict=True))


def _difference(manifest: Manifest, first: bytes, second: bytes) -> float:
    """Return the largest absolute difference.

    NaN against NaN and infinity against the same infinity count as equal; NaN against a number
    counts as infinite.
    """
    largest = 0.0
    others = decode_tensors(manifest.outputs, second)
    for name, array in decode_tensors(manifest.outputs, first).items():
        if array.tobytes() == others[name].tobytes() or array.size == 0:
            continue
        wide = np.complex128 if array.dtype.kind == "c" else np.float64
        one, other = array.astype(wide), others[name].astype(wide)
        is_equal = (one == other) | (np.isnan(one) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            difference = np.where(is_equal, 0.0, np.abs(one - other))
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
    return largest
