"""A bundle run on this machine: the whole model, and the chain of its stages.

Both use the interpreter module of the boards, so the results are those of a board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.inputs.made_up_inputs import make_payloads
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_core.contract.manifest import Stage
    from edge_partition.bundles.bundle import Bundle
    from edge_partition.tflite.read_tflite import TfliteModel


def read_whole(bundle: Bundle) -> TfliteModel:
    """Read the whole model's file."""
    return read_tflite(bundle.whole_file, name=bundle.manifest.model.name)


def whole_interpreter(bundle: Bundle, *, num_threads: int = 1) -> StageInterpreter:
    """Load the whole model into an interpreter."""
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
    """Load one stage into an interpreter."""
    return StageInterpreter(
        bundle.stage_file(stage),
        stage.inputs,
        bundle.manifest.sent_by(stage.index),
        num_threads=num_threads,
        state=bundle.manifest.state_of(stage),
    )


def made_up_payloads(bundle: Bundle, count: int) -> list[bytes]:
    """Return ``count`` encoded inputs: the user's sample first, then seeded inputs.

    Raises:
        BundleError: The sample can't be read, or has another size than the model's inputs.
    """
    sample = bundle.sample()
    given = [] if sample is None else [sample]
    left = max(0, count - len(given))
    return [*given, *make_payloads(read_whole(bundle), bundle.manifest.inputs, left)][:count]


def chain_stages(
    bundle: Bundle,
    payloads: list[bytes],
    *,
    on_input: Callable[[int, int], None] | None = None,
) -> list[bytes]:
    """Run every payload through all stages, with one stage in memory at a time.

    Args:
        bundle: The bundle.
        payloads: Encoded inputs.
        on_input: Called with (inferences done, inferences in all).

    Returns:
        The last stage's encoded outputs for each payload.
    """
    sent = payloads
    for sent in run_stages(bundle, payloads, on_input=on_input):  # noqa: B007
        pass
    return sent


def run_stages(
    bundle: Bundle, payloads: list[bytes], *, on_input: Callable[[int, int], None] | None
) -> Iterator[list[bytes]]:
    """Yield each stage's encoded outputs for every payload; arguments as :func:`chain_stages`."""
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
    """Return the payload of each boundary for one input: stage inputs, then the outputs.

    The input is the user's sample, or else a seeded one; stages start from the initial state.
    """
    (payload,) = made_up_payloads(bundle, 1)
    return [payload, *(sent for (sent,) in run_stages(bundle, [payload], on_input=None))]
