"""Compare tensors inside the whole model with the same tensors in its stages, bit for bit.

A trained classifier may give the same answer to every noise input. A comparison of such answers
proves nothing, because the comparison cannot fail. Tensors inside the model still vary with the
input.

First, the tensors that one stage sends to the next are compared. If none of them varies, tensors
at possible cuts within the stages are compared. To read the compared tensors, the whole model runs
with these tensors as additional outputs. If the tensors are within a stage, the stage runs with
additional outputs too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_core.contract.manifest import TensorSpec
from edge_core.contract.tensors import decode_tensors
from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.slice_model import tap_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from edge_core.contract.manifest import Stage
    from edge_partition.bundles.bundle import Bundle
    from edge_partition.tflite.read_tflite import TfliteModel

    _Named = dict[str, np.ndarray]

#: Largest number of cuts within a stage at which tensors are compared.
_CUTS_INSIDE = 4


@dataclass(frozen=True)
class InsideComparison:
    """Result of comparing the whole model with its stages on tensors inside the model.

    Attributes:
        tensors: Number of tensors that vary with the input; only these are compared.
        inputs: Number of inputs.
        identical: Number of inputs for which all compared tensors were equal, byte for byte.
    """

    tensors: int
    inputs: int
    identical: int


def compare_inside(
    bundle: Bundle, payloads: Sequence[bytes], others: Sequence[bytes], sent: Sequence[list[bytes]]
) -> InsideComparison | None:
    """Compare tensors between the stages. If none of these varies, compare tensors within stages.

    Args:
        bundle: The bundle, with every tensor sent in the model's own dtype.
        payloads: Inputs as request payloads, in the order in which the stages ran on them.
        others: More inputs as request payloads. They show which tensors vary with the input.
        sent: For each stage, a list of the payloads that the stage sent, one for each of
            ``payloads``.

    Returns:
        The result, or None if no tensor inside the model varies with the input.

    Raises:
        ModelLoadError: The TFLite runtime refuses a file of the bundle.
    """
    model = read_tflite(bundle.whole_file)
    manifest = bundle.manifest
    into = [list(payloads), *(list(answers) for answers in sent[:-1])]
    found = [
        [
            decode_tensors(stage.inputs, stage_payloads[number])
            for stage, stage_payloads in zip(manifest.stages, into, strict=True)
        ]
        for number in range(len(payloads))
    ]
    ends = {spec.name for spec in manifest.inputs}
    names = {spec.name for stage in manifest.stages[1:] for spec in stage.inputs} - ends
    between = [
        {name: array for tensors in stages for name, array in tensors.items()} for stages in found
    ]
    tried = [*payloads, *others]
    compared = _compare(list(_tapped_whole(bundle, model, names, tried)), between, names)
    if compared is not None:
        return compared
    within: list[_Named] = [{} for _ in payloads]
    for stage, stage_payloads in zip(manifest.stages, into, strict=True):
        for named, tensors in zip(
            within, _tapped_stage(bundle, stage, stage_payloads), strict=True
        ):
            named.update(tensors)
    names = set(within[0])
    return _compare(list(_tapped_whole(bundle, model, names, tried)), within, names)


def _compare(
    wholes: Sequence[_Named], parts: Sequence[_Named], names: set[str]
) -> InsideComparison | None:
    varying = {
        name
        for name in names
        if len({tensors[name].tobytes() for tensors in wholes if name in tensors}) > 1
    }
    if not varying:
        return None
    identical = sum(
        all(whole[name].tobytes() == part[name].tobytes() for name in varying)
        for whole, part in zip(wholes, parts, strict=False)
    )
    return InsideComparison(len(varying), len(parts), identical)


def _tapped_whole(
    bundle: Bundle, model: TfliteModel, names: set[str], payloads: Sequence[bytes]
) -> Iterator[_Named]:
    """Run the whole model on each payload; yield the tensors called ``names``, by name."""
    if not names:
        return
    manifest = bundle.manifest
    # The graph's names are unique. The file itself may have several tensors with the same name.
    inputs = tuple(
        TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in model.graph.boundary(0)
    )
    taps = [tensor for tensor in model.graph.tensors if tensor.name in names]
    specs = tuple(TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in taps)
    interpreter = StageInterpreter(
        *(tap_model(model, [tensor.index for tensor in taps]), inputs, specs),
        num_threads=1,
        state=manifest.model.state,
    )
    for payload in payloads:
        yield decode_tensors(specs, interpreter.invoke(payload))


def _tapped_stage(bundle: Bundle, stage: Stage, payloads: Sequence[bytes]) -> Iterator[_Named]:
    """Run a stage on each payload; yield the tensors at up to 4 cuts within the stage, by name."""
    model = read_tflite(bundle.stage_file(stage))
    cuts = model.graph.cuts
    chosen = (
        {cuts[len(cuts) * place // _CUTS_INSIDE] for place in range(_CUTS_INSIDE)} if cuts else ()
    )
    given = {spec.name for spec in stage.inputs}
    taps = {
        tensor.index: tensor
        for cut in chosen
        for tensor in model.graph.boundary(cut)
        if tensor.name not in given
    }
    specs = tuple(TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in taps.values())
    if not specs:
        yield from ({} for _ in payloads)
        return
    interpreter = StageInterpreter(
        *(tap_model(model, taps), stage.inputs, specs),
        num_threads=1,
        state=bundle.manifest.state_of(stage),
    )
    for payload in payloads:
        yield decode_tensors(specs, interpreter.invoke(payload))
