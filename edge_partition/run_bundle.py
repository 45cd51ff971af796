"""A bundle run on this machine: the whole model, and the chain of its stages.

Both go through the interpreter module that the boards use, so what is compared here is what a
board computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from broker_config.errors import EdgePartitionError
from broker_config.interpreter import StageInterpreter
from broker_config.tensors import decode_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker_config.manifest import Stage, TensorSpec
    from edge_partition.bundle import Bundle

_SEED = 20
_IMAGE_RANK = 4
_IMAGE_CHANNELS = (1, 3)


class ComparisonError(EdgePartitionError):
    """A comparison that could not fail proves nothing."""


@dataclass(frozen=True)
class Verification:
    """Whole model against the chain of its stages, on the same inputs.

    Attributes:
        inputs: How many inputs were tried.
        identical: For how many every output byte was the same.
        max_difference: The largest absolute difference of any output element.
        output_spread: The largest absolute difference between the outputs of two inputs: above
            zero, so that a difference would have shown.
    """

    inputs: int
    identical: int
    max_difference: float
    output_spread: float

    @property
    def exact(self) -> bool:
        """Whether parts equal the whole, bit for bit."""
        return self.identical == self.inputs


def whole_interpreter(bundle: Bundle, *, num_threads: int = 1) -> StageInterpreter:
    """Load the whole model."""
    manifest = bundle.manifest
    return StageInterpreter(
        bundle.whole_file, manifest.inputs, manifest.outputs, num_threads=num_threads
    )


def stage_interpreter(bundle: Bundle, stage: Stage, *, num_threads: int = 1) -> StageInterpreter:
    """Load one stage."""
    return StageInterpreter(
        bundle.stage_file(stage),
        stage.inputs,
        bundle.manifest.sent_by(stage.index),
        num_threads=num_threads,
    )


def random_payloads(specs: tuple[TensorSpec, ...], count: int) -> Iterator[bytes]:
    """Yield ``count`` seeded payloads: pixels for image-shaped floats, else unit normal.

    Integer tensors get their dtype's whole range, wide ones 0 to 127 (they are mostly indexes).
    """
    generator = np.random.default_rng(_SEED)
    for _ in range(count):
        yield b"".join(_random_array(generator, spec).tobytes() for spec in specs)


def verify_bundle(
    bundle: Bundle,
    payloads: list[bytes] | None = None,
    *,
    count: int = 8,
    on_input: Callable[[int, int], None] | None = None,
) -> Verification:
    """Run the whole and the chain of stages on the same inputs and compare every bit.

    Args:
        bundle: What to check.
        payloads: Inputs as they travel on the wire; None: ``count`` seeded random ones.
        count: How many random inputs.
        on_input: Called with (inputs done, inputs in all).

    Raises:
        ComparisonError: The whole model answers the same for every input.
        ModelLoadError: The runtime refuses a file.
    """
    manifest = bundle.manifest
    if payloads is None:
        payloads = list(random_payloads(manifest.inputs, count))
    whole = whole_interpreter(bundle)
    wholes = [whole.invoke(payload) for payload in payloads]
    # Also where only one input was given, or the same one twice.
    others = [whole.invoke(payload) for payload in random_payloads(manifest.inputs, 2)]
    del whole  # Frees its memory before the stages are loaded.
    parts = chain_stages(bundle, payloads, on_input=on_input)
    first = decode_tensors(manifest.outputs, wholes[0])
    spread = max(
        _difference(first, decode_tensors(manifest.outputs, payload)) for payload in wholes + others
    )
    if spread == 0:
        raise ComparisonError(
            f"{manifest.model.name} gives the same output for every input, so comparing proves "
            "nothing. Give it trained weights, or --weights seeded."
        )
    return Verification(
        inputs=len(payloads),
        identical=sum(a == b for a, b in zip(wholes, parts, strict=True)),
        max_difference=max(
            _difference(decode_tensors(manifest.outputs, a), decode_tensors(manifest.outputs, b))
            for a, b in zip(wholes, parts, strict=True)
        ),
        output_spread=spread,
    )


def chain_stages(
    bundle: Bundle,
    payloads: list[bytes],
    *,
    on_input: Callable[[int, int], None] | None = None,
) -> list[bytes]:
    """Run every payload through all stages, one stage in memory at a time."""
    stages = bundle.manifest.stages
    for position, stage in enumerate(stages):
        interpreter = stage_interpreter(bundle, stage)
        outputs = []
        for number, payload in enumerate(payloads):
            outputs.append(interpreter.invoke(payload))
            if on_input is not None:
                on_input(position * len(payloads) + number + 1, len(stages) * len(payloads))
        payloads = outputs
    return payloads


def reference_payloads(bundle: Bundle) -> list[bytes]:
    """Return what crosses each boundary for one seeded input: stage inputs, then the outputs."""
    (payload,) = random_payloads(bundle.manifest.inputs, 1)
    payloads = [payload]
    for stage in bundle.manifest.stages:
        payloads.append(stage_interpreter(bundle, stage).invoke(payloads[-1]))
    return payloads


def _random_array(generator: np.random.Generator, spec: TensorSpec) -> np.ndarray:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, spec.shape).astype(dtype)
    if dtype.kind in "iu":
        if dtype.itemsize == 1:
            bounds = np.iinfo(dtype)
            return generator.integers(bounds.min, bounds.max, spec.shape, dtype, endpoint=True)
        return generator.integers(0, 128, spec.shape).astype(dtype)
    is_image = len(spec.shape) == _IMAGE_RANK and spec.shape[-1] in _IMAGE_CHANNELS
    if is_image:
        return generator.uniform(0, 255, spec.shape).astype(dtype)
    return generator.standard_normal(spec.shape).astype(dtype)


def _difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """Return the largest absolute difference; one NaN against a number counts as infinite."""
    largest = 0.0
    for name, array in first.items():
        if array.tobytes() == second[name].tobytes() or array.size == 0:
            continue
        wide = np.complex128 if array.dtype.kind == "c" else np.float64
        difference = np.abs(array.astype(wide) - second[name].astype(wide))
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
    return largest
