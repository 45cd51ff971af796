"""A plan made into files: the folder that ``split`` writes and ``deploy`` reads.

The folder appears whole or not at all: it is written beside its place and renamed into it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_core.contract.manifest import (
    MAX_LAYERS,
    MAX_WRAPPED,
    NAME_PATTERN,
    NEEDS_STATE,
    Manifest,
    ModelInfo,
    Predicted,
    Stage,
    TensorSpec,
)
from edge_core.contract.tensors import payload_bytes
from edge_core.errors import EdgePartitionError
from edge_partition.facts.model_facts import ModelFacts, input_specs, output_specs
from edge_partition.pictures.draw_plan import draw_plan
from edge_partition.pictures.stage_layers import layer_names, operators_of_layers, wrapped_layers
from edge_partition.planning.plan_document import PLAN_FILE, plan_document
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_partition.model.wrap_operations import WrappedOperation
    from edge_partition.planning.plan import Plan
    from edge_partition.tflite.graph import Graph, Wire
    from edge_partition.tflite.read_tflite import TfliteModel

MANIFEST_FILE = "manifest.json"
WHOLE_FILE = "whole.tflite"
PLAN_PICTURE = "plan.svg"
#: An input that a person gave, as it travels: the model's inputs one after another.
SAMPLE_FILE = "sample.bin"

#: Where words meet in the names of ``keras.applications``: MobileNet|V3|Large, EfficientNet|V2|B0.
_WORD_BREAK = re.compile(
    r"(?<=[a-z])(?=V\d)|(?<=\d)(?=[A-Z])|(?<=[a-zA-Z0-9])(?=(?:Tiny|Small|Base|Large|XLarge|Mobile)$)"
)


#: As much of a file's name as still reads well in a topic and a table.
_NAME_LENGTH = 64


class BundleError(EdgePartitionError):
    """A folder is not a bundle, is damaged, or can't be written.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files are what its manifest says.

    Attributes:
        path: The folder.
        manifest: What ``manifest.json`` says.
    """

    path: Path
    manifest: Manifest

    @property
    def whole_file(self) -> Path:
        """The whole model."""
        return self.path / WHOLE_FILE

    def sample(self) -> bytes | None:
        """Return the input that a person gave at the split, as it travels; None: none was.

        Raises:
            BundleError: The file can't be read, or has another size than the model's inputs.
        """
        file = self.path / SAMPLE_FILE
        if not file.exists():
            return None
        try:
            sample = file.read_bytes()
        except OSError as error:
            raise BundleError(
                self.path, f"{SAMPLE_FILE} can't be read: {error.strerror}."
            ) from None
        expected = payload_bytes(self.manifest.inputs)
        if len(sample) != expected:
            raise BundleError(
                self.path,
                f"{SAMPLE_FILE} has {len(sample):,} bytes; the model's inputs have {expected:,}. "
                "Split again with --sample FILE.",
            )
        return sample

    def stage_file(self, stage: Stage) -> Path:
        """The file of one stage."""
        return self.path / stage.file


def deployment_name(model_name: str) -> str:
    """Return the default deployment name: ``MobileNetV3Large`` -> ``mobilenet-v3-large``.

    Accents go. Of a name in another script a checksum tells it from others: ``model-1f0c3a``.
    """
    words = unicodedata.normalize("NFKD", _WORD_BREAK.sub("-", model_name))
    plain = "".join(letter for letter in words if not unicodedata.combining(letter))
    name = re.sub(r"[^a-z0-9._-]+", "-", plain.lower()).strip("-._")
    short = name[:_NAME_LENGTH].rstrip("-._")
    return short or f"model-{hashlib.sha256(model_name.encode()).hexdigest()[:6]}"


def write_bundle(
    path: Path,
    model: TfliteModel,
    plan: Plan,
    *,
    name: str,
    deployment: str,
    quantization: str,
    weights: str,
    facts: ModelFacts | None = None,
    wrapped: tuple[WrappedOperation, ...] = (),
    state: str = "reset",
    sample: bytes | None = None,
    on_stage: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Slice ``model`` as ``plan`` says and write the bundle, replacing one that is there.

    Args:
        path: The folder to write.
        model: The whole model.
        plan: Which board runs which operators.
        name: The model's name, for people.
        deployment: The deployment's name, one MQTT topic level.
        quantization: As in :class:`~edge_core.contract.manifest.ModelInfo`.
        weights: As in :class:`~edge_core.contract.manifest.ModelInfo`.
        facts: What the model's inputs take and its outputs mean.
        wrapped: The model's operations that were no layers, told in the manifest.
        state: ``reset`` or ``keep``, of a model that keeps state.
        sample: An input, as it travels, that boards and ``verify`` are to try.
        on_stage: Called with (stages written, stages in all).

    Raises:
        BundleError: The folder holds something else, or can't be written; or the plan has replicas
            of a stage that keeps state.
    """
    if not NAME_PATTERN.fullmatch(deployment):
        raise BundleError(
            path,
            f"the deployment's name {deployment!r} is not one topic level; expected letters, "
            "digits, '.', '_' and '-'. Name it with --name.",
        )
    facts = facts or ModelFacts()
    _check_replicas(path, plan)
    _check_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise BundleError(path, f"can't be written: {error.strerror}.") from None
    try:
        # mkdtemp is for its owner alone; a bundle is an ordinary folder.
        scratch.chmod(0o755)
        (scratch / "stages").mkdir()
        (scratch / WHOLE_FILE).write_bytes(model.data)
        stages = []
        wires: tuple[Wire, ...] = ("float32", *plan.wires, "float32")
        computed_by = operators_of_layers(model.graph) if wrapped else {}
        for index, planned in enumerate(plan.stages):
            data = slice_model(model, planned.start, planned.stop)
            file = f"stages/{index}.tflite"
            (scratch / file).write_bytes(data)
            layers = layer_names(model.graph, planned.start, planned.stop)
            bare = wrapped_layers(computed_by, planned.start, planned.stop, wrapped)
            stages.append(
                Stage(
                    index=index,
                    devices=tuple(device.name for device in planned.devices),
                    file=file,
                    sha256=hashlib.sha256(data).hexdigest(),
                    size_bytes=len(data),
                    inputs=_specs(model.graph, planned.start, wires[index], facts),
                    outputs=_specs(model.graph, planned.stop, wires[index + 1], facts),
                    predicted=Predicted(
                        invoke_ms=round(planned.cost.invoke_ms, 3),
                        ram_bytes=max(cost.ram_bytes for cost in planned.costs),
                    ),
                    layers=layers[:MAX_LAYERS],
                    more_layers=max(0, len(layers) - MAX_LAYERS),
                    wrapped=bare[:MAX_WRAPPED],
                    more_wrapped=max(0, len(bare) - MAX_WRAPPED),
                    state=model.graph.keeps_state(planned.start, planned.stop),
                )
            )
            if on_stage is not None:
                on_stage(index + 1, len(plan.stages))
        keeps_state = bool(model.graph.stateful)
        manifest = Manifest(
            deployment=deployment,
            generation=_generation(stages, (facts.labels, state) if keeps_state else facts.labels),
            model=ModelInfo(
                name=name,
                sha256=model.sha256,
                quantization=quantization,
                weights=weights,
                labels=facts.labels,
                detections=facts.detections,
                wire="float16" if "float16" in plan.wires else "float32",
                state=state if keeps_state else "",
            ),
            inputs=stages[0].inputs,
            outputs=stages[-1].outputs,
            stages=tuple(stages),
            needs=(NEEDS_STATE,) if keeps_state else (),
        )
        # What is written must be readable: an unusable manifest fails here, not at deploy.
        manifest = Manifest.from_json(manifest.to_json())
        (scratch / MANIFEST_FILE).write_text(manifest.to_json())
        if sample is not None:
            (scratch / SAMPLE_FILE).write_bytes(sample)
        (scratch / PLAN_FILE).write_text(json.dumps(plan_document(plan), indent=1))
        (scratch / PLAN_PICTURE).write_text(draw_plan(plan))
        _replace_folder(scratch, path)
    except OSError as error:
        raise BundleError(path, f"can't be written: {error.strerror}.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle(path, manifest)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check every file against its manifest.

    Raises:
        BundleError: No bundle there, a file is missing, or has other bytes than recorded.
        ManifestError: ``manifest.json`` can't be used.
    """
    try:
        text = (path / MANIFEST_FILE).read_bytes()
    except OSError:
        raise BundleError(
            path, f"no {MANIFEST_FILE} there, so it is no bundle; make one with `split -o {path}`."
        ) from None
    bundle = Bundle(path, Manifest.from_json(text))
    recorded = [(bundle.whole_file, bundle.manifest.model.sha256)]
    recorded += [(bundle.stage_file(stage), stage.sha256) for stage in bundle.manifest.stages]
    for file, sha256 in recorded:
        try:
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(
                path, f"{file.name} can't be read ({error.strerror}); split again."
            ) from None
        if found != sha256:
            raise BundleError(
                path,
                f"{file.relative_to(path)} has SHA-256 {found[:12]}..., the manifest says "
                f"{sha256[:12]}...: the file is damaged; split again.",
            )
    return bundle


def _specs(graph: Graph, position: int, wire: Wire, facts: ModelFacts) -> tuple[TensorSpec, ...]:
    """Return what crosses a boundary; of the model's own inputs and outputs with their facts."""
    if position == 0:
        return input_specs(graph, facts)
    if position == len(graph.operators):
        return output_specs(graph, facts)
    return tuple(
        TensorSpec(tensor.name, graph.wire_dtype(tensor, wire), tensor.shape)
        for tensor in graph.boundary(position)
    )


def _generation(stages: list[Stage], told: object) -> str:
    """Return an id of what is deployed where: the same split has the same id."""
    return hashlib.sha256(repr((stages, told)).encode()).hexdigest()[:12]


def _check_replicas(path: Path, plan: Plan) -> None:
    for index, stage in enumerate(plan.stages):
        if len(stage.devices) > 1 and plan.graph.keeps_state(stage.start, stage.stop):
            raise BundleError(
                path,
                f"the plan has {len(stage.devices)} replicas of stage {index}, which keeps state "
                "from one request to the next; plan again, with one board for it.",
            )


def _check_replaceable(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise BundleError(path, "is a file; name a folder with -o.")
    if any(path.iterdir()) and not (path / MANIFEST_FILE).exists():
        raise BundleError(
            path, "is a folder with other files in it, not a bundle; name another one with -o."
        )


def _replace_folder(new: Path, path: Path) -> None:
    """Put ``new`` in the place of ``path``; what was there stays until ``new`` is complete."""
    if not path.exists():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
    try:
        path.rename(old / "bundle")
        try:
            new.rename(path)
        except OSError:
            (old / "bundle").rename(path)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
