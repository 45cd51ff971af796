"""Write a bundle: slice the model as the plan says, and describe the slices in a manifest.

The files are written to a temporary folder. The complete folder is then renamed, so that a bundle's
folder is never incomplete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edge_core.contract.manifest import (
    MAX_LAYERS,
    MAX_WRAPPED,
    NEEDS_ROUTE,
    NEEDS_STATE,
    Manifest,
    ModelInfo,
    Predicted,
    Stage,
    TensorSpec,
    WrappedLayer,
)
from edge_core.contract.names import NAME_EXPECTED, NAME_PATTERN
from edge_partition.bundles.bundle import (
    MANIFEST_FILE,
    PLAN_PICTURE,
    SAMPLE_FILE,
    WHOLE_FILE,
    Bundle,
    BundleError,
)
from edge_partition.facts.model_facts import ModelFacts, input_specs, output_specs
from edge_partition.pictures.draw_plan import draw_plan
from edge_partition.pictures.stage_layers import layer_names, operators_of_layers, wrapped_layers
from edge_partition.planning.plan_document import PLAN_FILE, plan_document
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from edge_partition.model.wrap_operations import WrappedOperation
    from edge_partition.planning.plan import Plan, PlannedStage
    from edge_partition.tflite.graph import Graph, Wire
    from edge_partition.tflite.read_tflite import TfliteModel


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
    """Slice ``model`` as ``plan`` says, and write the bundle. An existing bundle is replaced.

    Args:
        path: The folder to write.
        model: The whole model.
        plan: The stages and their boards.
        name: The model's name, for people.
        deployment: The deployment's name: one MQTT topic level.
        quantization: ``none``, ``float16``, ``dynamic``, ``int8``, or ``as-given`` for a
            ``.tflite`` file that another program converted.
        weights: Source of the weights: ``trained``, ``imagenet`` or ``seeded``.
        facts: Facts about the model's inputs and outputs, such as pixel values and labels.
        wrapped: The Keras operations that edge-partition wrapped in layers. The manifest lists
            these operations.
        state: For a model that keeps state. ``reset``: each request starts from the initial state.
            ``keep``: a request continues from the state of the client's previous request.
        sample: The payload of a request, with which ``verify`` and the boards test the stages.
            None: made-up values.
        on_stage: Called after each stage, with the number of stages written and the number of all
            stages.

    Returns:
        The written bundle.

    Raises:
        BundleError: ``deployment`` is not a valid name, ``path`` has other files than a bundle's,
            ``path`` can't be written, or the plan has replicas of a stage that keeps state.
    """
    facts = facts or ModelFacts()
    info = ModelInfo(
        name=name,
        sha256=model.sha256,
        quantization=quantization,
        weights=weights,
        labels=facts.labels,
        detections=facts.detections,
        wire="float16" if "float16" in plan.wires else "float32",
        state=state if model.graph.stateful else "",
    )
    _check_name(path, deployment)
    _check_replicas(path, plan)
    _check_replaceable(path)
    with _new_folder(path) as folder:
        (folder / WHOLE_FILE).write_bytes(model.data)
        stages = _write_stages(folder, model, plan, facts=facts, wrapped=wrapped, on_stage=on_stage)
        manifest = _make_manifest(deployment, info, stages)
        (folder / MANIFEST_FILE).write_text(manifest.to_json())
        _write_sample(folder, sample)
        _write_plan(folder, plan)
    return Bundle(path, manifest)


def _write_sample(folder: Path, sample: bytes | None) -> None:
    if sample is not None:
        (folder / SAMPLE_FILE).write_bytes(sample)


def _write_plan(folder: Path, plan: Plan) -> None:
    (folder / PLAN_FILE).write_text(json.dumps(plan_document(plan), indent=1))
    (folder / PLAN_PICTURE).write_text(draw_plan(plan))


def _write_stages(
    folder: Path,
    model: TfliteModel,
    plan: Plan,
    *,
    facts: ModelFacts,
    wrapped: tuple[WrappedOperation, ...],
    on_stage: Callable[[int, int], None] | None,
) -> list[Stage]:
    """Write the TFLite file of each stage; return the stages' entries in the manifest."""
    (folder / "stages").mkdir()
    computed_by = operators_of_layers(model.graph) if wrapped else {}
    stages = []
    for index, planned in enumerate(plan.stages):
        data = slice_model(model, planned.start, planned.stop)
        bare = wrapped_layers(computed_by, planned.start, planned.stop, wrapped)
        stage = _describe_stage(model.graph, plan, index, data, facts=facts, wrapped=bare)
        (folder / stage.file).write_bytes(data)
        stages.append(stage)
        if on_stage is not None:
            on_stage(index + 1, len(plan.stages))
    return stages


def _describe_stage(
    graph: Graph,
    plan: Plan,
    index: int,
    data: bytes,
    *,
    facts: ModelFacts,
    wrapped: tuple[WrappedLayer, ...],
) -> Stage:
    """Return a stage's entry in the manifest; ``data`` is the content of the stage's file."""
    planned = plan.stages[index]
    start, stop = planned.start, planned.stop
    wires: tuple[Wire, ...] = ("float32", *plan.wires, "float32")
    layers = layer_names(graph, start, stop)
    return Stage(
        index=index,
        devices=tuple(device.name for device in planned.devices),
        file=f"stages/{index}.tflite",
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        inputs=_specs(graph, start, wires[index], facts),
        outputs=_specs(graph, stop, wires[index + 1], facts),
        predicted=Predicted(
            invoke_ms=round(planned.cost.invoke_ms, 3),
            ram_bytes=max(cost.ram_bytes for cost in planned.costs),
            boards_ms=_unless_equal(cost.invoke_ms for cost in planned.costs),
            links_ms=_links_ms(planned),
        ),
        layers=layers[:MAX_LAYERS],
        more_layers=max(0, len(layers) - MAX_LAYERS),
        wrapped=wrapped[:MAX_WRAPPED],
        more_wrapped=max(0, len(wrapped) - MAX_WRAPPED),
        state=graph.keeps_state(start, stop),
    )


def _unless_equal(times_ms: Iterable[float]) -> tuple[float, ...]:
    """Return the times, rounded to 0.001 ms, or an empty tuple if all times are equal."""
    rounded = tuple(round(time_ms, 3) for time_ms in times_ms)
    return rounded if len(set(rounded)) > 1 else ()


def _links_ms(planned: PlannedStage) -> tuple[float, ...]:
    """Return how long a request occupies each replica's link, in ms; empty for one replica."""
    if len(planned.devices) == 1:
        return ()
    return tuple(round(cost.transfer_ms, 3) for cost in planned.costs)


def _make_manifest(deployment: str, model: ModelInfo, stages: list[Stage]) -> Manifest:
    told = (model.labels, model.state) if model.state else model.labels
    manifest = Manifest(
        deployment=deployment,
        generation=_generation(stages, told),
        model=model,
        inputs=stages[0].inputs,
        outputs=stages[-1].outputs,
        stages=tuple(stages),
        needs=(NEEDS_ROUTE, NEEDS_STATE) if model.state else (NEEDS_ROUTE,),
    )
    # A manifest that cannot be read back fails here, not at deploy.
    return Manifest.from_json(manifest.to_json())


def _check_name(path: Path, deployment: str) -> None:
    if not NAME_PATTERN.fullmatch(deployment):
        raise BundleError(
            path,
            f"the deployment's name is {deployment!r}; expected {NAME_EXPECTED}. Give another name "
            "with --name.",
        )


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, which replaces ``path`` if the ``with`` block ends without an error.

    Raises:
        BundleError: The folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            # mkdtemp makes folders that only their owner may read. All users may read a bundle.
            folder.chmod(0o755)
            yield folder
            _replace_folder(folder, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise BundleError(
            path,
            f"can't be written: {error.strerror}. Name another folder with -o.",
        ) from None


def _specs(graph: Graph, position: int, wire: Wire, facts: ModelFacts) -> tuple[TensorSpec, ...]:
    """Return the manifest's entries for the tensors that cross a position of the model.

    The entries of the model's own inputs and outputs include facts such as pixel values.

    Args:
        graph: The model's operators and tensors.
        position: Number of operators before the position.
        wire: The dtype of activations that cross the position.
        facts: Facts about the model's inputs and outputs.
    """
    if position == 0:
        return input_specs(graph, facts)
    if position == len(graph.operators):
        return output_specs(graph, facts)
    return tuple(
        TensorSpec(tensor.name, graph.wire_dtype(tensor, wire), tensor.shape)
        for tensor in graph.boundary(position)
    )


def _generation(stages: list[Stage], told: object) -> str:
    """Return an id computed from the stages and from ``told``, facts that all stages share.

    Equal arguments give equal ids.
    """
    return hashlib.sha256(repr((stages, told)).encode()).hexdigest()[:12]


def _check_replicas(path: Path, plan: Plan) -> None:
    for index, stage in enumerate(plan.stages):
        if len(stage.devices) > 1 and plan.graph.keeps_state(stage.start, stage.stop):
            raise BundleError(
                path,
                f"the plan has {len(stage.devices)} replicas of stage {index}, which keeps state "
                "from one request to the next. Plan again with one board for this stage.",
            )


def _check_replaceable(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise BundleError(path, "is a file; name a folder with -o.")
    if any(path.iterdir()) and not (path / MANIFEST_FILE).exists():
        raise BundleError(
            path, "is a folder with other files, not a bundle; name another folder with -o."
        )


def _replace_folder(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``. If renaming fails, restore the old folder at ``path``."""
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
