"""Run a bundle on this machine: the whole model, or the chain of its stages.

Both use :mod:`edge_core.runtime.stage_interpreter`, the module that runs the stages on the boards.
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
    """Read the bundle's TFLite file of the whole model."""
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
    """Return ``count`` inputs as request payloads: the user's sample first, then random inputs.

    The random inputs are the same on every call, because their seed is fixed. Without a sample,
    all inputs are random.

    Raises:
        BundleError: The sample can't be read, or its size differs from the size of the model's
            inputs.
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
        payloads: Inputs as request payloads.
        on_input: Called after each inference with the number of inferences done and the total
            number.

    Returns:
        For each input, the payload that the last stage sends.
    """
    sent = payloads
    for sent in run_stages(bundle, payloads, on_input=on_input):  # noqa: B007
        pass
    return sent


def run_stages(
    bundle: Bundle, payloads: list[bytes], *, on_input: Callable[[int, int], None] | None
) -> Iterator[list[bytes]]:
    """Run the stages in order; yield the payloads that each stage sends, one for each input.

    The arguments are those of :func:`chain_stages`.
    """
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
    """Run one input through all stages; return what each stage receives, and the final outputs.

    Item ``i`` is the payload that stage ``i`` receives. The last item is the payload of the model's
    outputs. The input is the user's sample, or a random input if the bundle has no sample. Each
    stage starts from its initial state.
    """
    (payload,) = made_up_payloads(bundle, 1)
    return [payload, *(sent for (sent,) in run_stages(bundle, [payload], on_input=None))]
