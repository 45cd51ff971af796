"""Python functions for the steps from a model to its answers. The commands call these functions.

A *part* is the file with which a board runs a stage.

>>> import edge_partition as ep
>>> model = ep.load_model("model.tflite")  # doctest: +SKIP
>>> plan = ep.plan_model(model, ep.load_fleet("fleet.toml"))  # doctest: +SKIP
>>> bundle = ep.split_model(model, plan, "build")  # doctest: +SKIP
>>> assert ep.verify_bundle(bundle).exact  # doctest: +SKIP
>>> ep.deploy_bundle(bundle, "mqtt://127.0.0.1:1883")  # doctest: +SKIP
>>> with ep.Pipeline(bundle.manifest.deployment) as pipeline:  # doctest: +SKIP
...     print(pipeline.answer(pipeline.infer("photo.jpg")))
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.contract.tensors import encode_tensors
from edge_core.contract.topics import DEFAULT_PREFIX
from edge_core.mqtt.broker_address import BROKER_VARIABLE, DEFAULT_BROKER
from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles import bundle as bundles
from edge_partition.bundles import verify_bundle as verify
from edge_partition.bundles import write_bundle
from edge_partition.facts.model_facts import PictureOptions, input_specs
from edge_partition.facts.read_labels import find_class
from edge_partition.inputs.batches import batches
from edge_partition.inputs.load_inputs import expand_inputs, load_samples
from edge_partition.planning import fleet as fleets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_partition.boards.deploy_bundle import LoadedStage
    from edge_partition.boards.fleet_status import FleetStatus
    from edge_partition.bundles.bundle import Bundle
    from edge_partition.bundles.verify_bundle import Verification
    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.fleet import Fleet
    from edge_partition.planning.plan import Plan
    from edge_partition.planning.plan_split import Objective

    AnyPath = str | os.PathLike[str]


def load_model(
    source: str,
    *,
    weights: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    quantization: str = "none",
    calibration: AnyPath | None = None,
    signature: str | None = None,
    picture: PictureOptions | None = None,
    on_step: Callable[[str], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> LoadedTflite:
    """Load a model and convert the model to TFLite. A ``.tflite`` file is not converted.

    Args:
        source: A ``.keras``, ``.h5`` or ``.tflite`` file, a SavedModel's folder, a Keras
            application's name, or ``package.module:function``.
        weights: For Keras models: a file with the weights, or ``seeded`` for made-up weights, which
            are equal on every machine.
        input_shapes: For each input whose shape the model leaves open, the input's name and its
            shape without the batch. The name ``""`` stands for all such inputs.
        quantization: ``none``, ``dynamic``, ``float16`` or ``int8``.
        calibration: For ``int8``: a file with sample inputs, or a folder with such files.
        signature: The name of the signature to use, if the model has several.
        picture: How pictures become inputs, and the names of the classes.
        on_step: Called with the name of each step when the step starts.
        on_note: Called with each note about a calibration file.

    Returns:
        The ``.tflite`` file, its graph, and the facts about its inputs and outputs.

    Raises:
        EdgePartitionError: The model or an argument can't be used; each cause has a subclass.
    """
    # Imported here, so that commands without a model import neither model readers nor planner.
    from edge_partition.model import load_model as models  # noqa: PLC0415
    from edge_partition.model.read_calibration import read_calibration  # noqa: PLC0415

    samples = None
    if calibration is not None:
        picture = picture or PictureOptions()
        samples = read_calibration(Path(calibration), source, picture, on_note)
    return models.load_model(
        source,
        weights=weights,
        input_shapes=input_shapes,
        quantization=quantization,
        calibration=samples,
        signature=signature,
        picture=picture,
        on_step=on_step,
    )


def load_fleet(path: AnyPath) -> Fleet:
    """Read the boards of a ``fleet.toml``.

    Raises:
        FleetError: The file can't be read, or a board's entry is wrong.
    """
    return fleets.load_fleet(Path(path))


def plan_model(
    model: LoadedTflite,
    fleet: Fleet,
    *,
    objective: Objective = "throughput",
    stages: int | None = None,
    cuts: Sequence[str] = (),
    use_profiles: bool = True,
    on_unusable: Callable[[Exception], None] | None = None,
    on_limit: Callable[[str], None] | None = None,
    **limits: Any,
) -> Plan:
    """Return the best plan: the cuts of the model, and the boards of each stage.

    Args:
        model: Return value of :func:`load_model`.
        fleet: The boards: return value of :func:`load_fleet`, or of ``equal_fleet(4)``.
        objective: ``throughput`` (results per second), ``latency`` (milliseconds per request) or
            ``energy`` (joules per request).
        stages: The number of stages. Each stage is then on one board. None: the planner chooses.
        cuts: Names of the layers after which the model is cut; empty: the planner chooses.
        use_profiles: Whether to use profiles: the times of the model that boards have measured.
        on_unusable: Called with the error of a profile that can't be used.
        on_limit: Called with a sentence for each board whose agent's memory limit differs from the
            limit in ``fleet``. The plan uses the agent's limit.
        limits: The arguments ``wire``, ``max_replicas``, ``max_latency_ms`` and
            ``min_throughput_per_s`` of :func:`~edge_partition.planning.plan_split.plan_split`.

    Raises:
        EdgePartitionError: No plan fits the boards and limits, or the model can't be cut after one
            of ``cuts``.
    """
    from edge_partition.planning.plan_split import plan_split  # noqa: PLC0415

    graph = model.tflite.graph
    if use_profiles:
        fleet = use_measured_times(model, fleet, on_unusable=on_unusable, on_limit=on_limit)
    positions = sorted({graph.position_after(name) for name in cuts}) if cuts else None
    return plan_split(graph, fleet, objective, stages=stages, cuts=positions, **limits)


def use_measured_times(
    model: LoadedTflite,
    fleet: Fleet,
    *,
    on_unusable: Callable[[Exception], None] | None = None,
    on_limit: Callable[[str], None] | None = None,
) -> Fleet:
    """Return ``fleet`` with measured times for each board that has a profile of the model.

    A profile is the result of ``edge-partition profile``. A board with a profile also gets the
    memory limit of its agent, if the agent has a limit.

    Args:
        model: Return value of :func:`load_model`.
        fleet: The boards.
        on_unusable: Called with the error of a profile that can't be used.
        on_limit: Called with a sentence for each board whose agent's memory limit differs from the
            limit in ``fleet``.
    """
    from edge_partition.profiling.apply_profiles import apply_profiles  # noqa: PLC0415
    from edge_partition.profiling.profile_store import ProfileStore  # noqa: PLC0415

    return apply_profiles(
        fleet,
        model.tflite.graph,
        model.tflite.sha256,
        ProfileStore(),
        on_unusable=on_unusable or (lambda _error: None),
        on_limit=on_limit,
    )


def split_model(
    model: LoadedTflite,
    plan: Plan,
    path: AnyPath,
    *,
    deployment: str | None = None,
    state: str = "reset",
    sample: bytes | None = None,
    on_stage: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Cut the model as planned, write the bundle, and return the bundle.

    Args:
        model: Return value of :func:`load_model`.
        plan: Return value of :func:`plan_model` for ``model``.
        path: The bundle's folder. An older bundle in this folder is replaced.
        deployment: The deployment's name; None: a name made from the model's name.
        state: For a model that keeps state. ``reset``: each request starts from the initial state.
            ``keep``: each request continues from the client's previous request.
        sample: An input from :func:`read_sample`, with which the boards test their parts; None:
            made-up values.
        on_stage: Called with (number of stages written, number of all stages).

    Raises:
        BundleError: The folder has other files than a bundle's, or can't be written, or the
            deployment's name or the plan can't be used.
    """
    return write_bundle.write_bundle(
        Path(path),
        model.tflite,
        plan,
        name=model.name,
        deployment=deployment or bundles.deployment_name(model.name),
        quantization=model.quantization,
        weights=model.weights,
        facts=model.facts,
        wrapped=model.wrapped,
        state=state,
        sample=sample,
        on_stage=on_stage,
    )


def read_sample(model: LoadedTflite, path: AnyPath) -> bytes:
    """Return the first input in a file, as the bytes of a request's payload.

    Raises:
        InputFileError: The file can't be read, or doesn't fit the model's inputs.
    """
    specs = input_specs(model.tflite.graph, model.facts)
    first, _ = next(batches(load_samples(expand_inputs([Path(path)])[0], specs), specs))
    return encode_tensors(specs, first)


def read_bundle(path: AnyPath) -> Bundle:
    """Read a bundle and check every file against its manifest.

    Raises:
        BundleError: The folder is not a bundle, or a file of the bundle is missing or damaged.
        ManifestError: ``manifest.json`` is not a valid manifest.
    """
    return bundles.read_bundle(Path(path))


def verify_bundle(
    bundle: Bundle,
    files: Iterable[AnyPath] = (),
    *,
    count: int = 8,
    on_input: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Verification:
    """Run the whole model and the chain of its parts on the same inputs; compare every bit.

    Args:
        bundle: Return value of :func:`split_model` or :func:`read_bundle`.
        files: Files with inputs; empty: the bundle's sample and made-up inputs. If names of files
            or of their folders have a class's label (``digit-7.png``, ``cat/01.jpg``), the result
            has the accuracy over these files.
        count: The number of inputs if ``files`` is empty.
        on_input: Called after each inference of a part, with (number of inferences done, number of
            all inferences).
        on_note: Called with each note about a file.

    Raises:
        ComparisonError: A comparison would prove nothing: the model gives the same values for every
            input, or different answers to the same input.
        InputFileError: A file can't be read, or doesn't fit the model's inputs.
    """
    manifest = bundle.manifest
    payloads, classes = [], []
    for file in expand_inputs(map(Path, files)):
        for sample in load_samples(file, manifest.inputs, on_note=on_note):
            # Each request has one sample, which is repeated if the model takes a batch of samples.
            request, _ = next(batches([sample], manifest.inputs))
            payloads.append(encode_tensors(manifest.inputs, request))
            classes.append(find_class(file, manifest.model.labels))
    return verify.verify_bundle(
        bundle, payloads or None, count=count, classes=classes, on_input=on_input
    )


def deploy_bundle(
    bundle: Bundle,
    broker: str | BrokerAddress | None = None,
    *,
    prefix: str = DEFAULT_PREFIX,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> tuple[LoadedStage, ...]:
    """Have each board load and test its parts of a bundle, then make the bundle live.

    Args:
        bundle: Return value of :func:`split_model` or :func:`read_bundle`.
        broker: The broker's URL, or its address with account and certificates; None: the URL in
            ``EDGE_PARTITION_BROKER``, else ``mqtt://127.0.0.1:1883``.
        prefix: The first levels of every topic.
        on_progress: Called from several threads, with (board, bytes received, bytes in total).

    Returns:
        A report for each board of each stage, sorted by stage, then by board.

    Raises:
        UnknownBoardError: A board of the bundle is offline. The live deployments are unchanged.
        DeploymentRefusedError: A board refused its part or did not answer. The live deployments are
            unchanged.
        BrokerUnreachableError: No broker answers at the address.
    """
    with Deployer(_broker(broker), prefix=prefix) as deployer:
        return deployer.deploy(bundle, on_progress=on_progress)


def undeploy(
    deployment: str,
    broker: str | BrokerAddress | None = None,
    *,
    prefix: str = DEFAULT_PREFIX,
    force: bool = False,
) -> None:
    """End a deployment and have its boards delete their parts.

    Args:
        deployment: The deployment's name.
        broker: As for :func:`deploy_bundle`.
        prefix: The first levels of every topic.
        force: Whether to end the deployment even if a board is offline. An offline board keeps its
            part.

    Raises:
        UnknownDeploymentError: No deployment of this name is live.
        UnknownBoardError: A board is offline, and ``force`` is false.
    """
    with Deployer(_broker(broker), prefix=prefix) as deployer:
        deployer.undeploy(deployment, force=force)


def read_status(
    broker: str | BrokerAddress | None = None, *, prefix: str = DEFAULT_PREFIX
) -> FleetStatus:
    """Return the state of all boards that a broker knows, and the manifests of live deployments.

    Args:
        broker: As for :func:`deploy_bundle`.
        prefix: The first levels of every topic.
    """
    with Deployer(_broker(broker), prefix=prefix) as deployer:
        return deployer.status()


def _broker(broker: str | BrokerAddress | None) -> str | BrokerAddress:
    return broker or os.environ.get(BROKER_VARIABLE, DEFAULT_BROKER)
