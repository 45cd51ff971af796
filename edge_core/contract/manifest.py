"""``manifest.json``: the stages of a deployment, their boards, and the tensors between them.

The manifest is the contract between host, agents and clients. This module is pure: it converts JSON
to frozen dataclasses and back. Reading checks every field, because manifests arrive from disks and
brokers.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from edge_core.contract.json_fields import FieldError, parse_json, shorten
from edge_core.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_core.contract.json_fields import Field

_T = TypeVar("_T")

SCHEMA = 1

#: Size of one element of a tensor in bytes, by numpy's name of the dtype.
ITEM_SIZE_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
    "complex64": 8, "complex128": 16,
}  # fmt: skip

#: Largest size of a tensor in bytes: the largest MQTT packet (MQTT 5.0, section 2.1.4).
_MAX_TENSOR_BYTES = 268_435_455

#: Limits of the names and constants that a manifest has for people. A manifest is one retained
#: message that small boards read. With these limits, the manifest of a model with 1,000 operators
#: in 2 stages is smaller than 200 kB.
MAX_LAYERS = 256
MAX_LAYER_CHARACTERS = 100
MAX_WRAPPED = 64
MAX_CONSTANTS = 8
MAX_CONSTANT_CHARACTERS = 60
#: Fields that the JSON text leaves out if they are empty.
_OPTIONAL = ("layers", "more_layers", "wrapped", "more_wrapped", "state")
_OPTIONAL_OF_TENSORS = ("pixels", "quantized", "scores", "rate_hz")

PIXEL_ORDERS = ("rgb", "bgr", "gray")
RESIZE_FILTERS = ("bilinear", "bicubic", "nearest", "area")
PIXEL_FITS = ("stretch", "crop", "letterbox")
#: Sources of an input's pixel values: Keras's ``preprocess_input`` of an application, the metadata
#: of a ``.tflite``, the scale and zero point of an integer input, a user's option, or a guess.
PIXEL_SOURCES = ("application", "metadata", "quantization", "option", "guess")
#: Meanings of an output's scores; empty: unknown.
SCORES = ("", "probabilities", "logits")
#: Values of :attr:`ModelInfo.state`; empty: the model keeps no state.
STATES = ("", "reset", "keep")
#: Layouts of outputs that are boxes: SSD's four tensors, or a YOLO head; empty: no boxes.
DETECTIONS = ("", "ssd", "yolo")
#: Entry of ``Manifest.needs``: agents must support :attr:`Stage.state`.
NEEDS_STATE = "state"
#: Entry of ``Manifest.needs``: agents must serve per-board topics and follow routes.
NEEDS_ROUTE = "route"


@dataclass(frozen=True)
class Pixels:
    """The conversion of a picture to an input of a model.

    The picture is resized with ``resize`` and ``fit``, and its channels are put in ``order``. Each
    value ``v`` from 0 to 255 becomes ``(v / unit - mean / unit) / (std / unit)``, computed in
    float32 from left to right. The result equals ``(v - mean) / std`` except for rounding. The
    division by ``unit`` gives the same rounding as in Keras.

    Attributes:
        order: Order of the channels, one of :data:`PIXEL_ORDERS`.
        mean: Mean of each channel in ``order``, or one mean for all channels.
        std: Standard deviation of each channel in ``order``, or one for all channels; above 0.
        unit: Number by which Keras's ``preprocess_input`` first divides each value; above 0. The
            number is 1 if Keras does not divide first.
        resize: Filter that resizes the picture, one of :data:`RESIZE_FILTERS`.
        fit: Part of the picture that the model gets, one of :data:`PIXEL_FITS`. ``stretch``: the
            whole picture, stretched to the model's height and width. ``crop``: the middle of the
            picture. ``letterbox``: the whole picture with gray bars.
        said_by: Source of these values, one of :data:`PIXEL_SOURCES`.
    """

    order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unit: float = 1.0
    resize: str = "bilinear"
    fit: str = "stretch"
    said_by: str = "guess"


@dataclass(frozen=True)
class Quantized:
    """The quantization of a tensor: ``real = (integer - zero_point) * scale``."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class TensorSpec:
    """The description of an input or output of a stage or of the whole model.

    Two descriptions are equal if they have the same name, dtype and shape. The other fields tell
    people and clients what the values of a model's inputs and outputs mean.

    Attributes:
        name: Name of the tensor in the ``.tflite`` file.
        dtype: numpy's name of the element type, such as ``float32``.
        shape: Dimensions, all fixed.
        pixels: Conversion of pictures, for an input that takes pictures.
        quantized: Quantization, for an integer tensor that represents real values.
        scores: Meaning of an output's scores, one of :data:`SCORES`.
        rate_hz: Sample rate of an input that takes sound, in hertz; 0: unknown.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    pixels: Pixels | None = field(default=None, compare=False)
    quantized: Quantized | None = field(default=None, compare=False)
    scores: str = field(default="", compare=False)
    rate_hz: int = field(default=0, compare=False)

    @property
    def size_bytes(self) -> int:
        """Size of the tensor on the wire and in memory, in bytes."""
        return math.prod(self.shape) * ITEM_SIZE_BYTES[self.dtype]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Predicted:
    """The planner's prediction for a stage.

    Attributes:
        invoke_ms: Time of one inference on the slowest board, in milliseconds.
        ram_bytes: Resident memory of an agent that serves only this stage, in bytes.
        boards_ms: Time of one inference on each board, in the order of :attr:`Stage.devices`, in
            milliseconds. Empty: each board takes ``invoke_ms``.
        links_ms: Time for which a request occupies each board's link, in the order of
            :attr:`Stage.devices`, in milliseconds. Empty: the times are not known, or the stage has
            one board.
    """

    invoke_ms: float
    ram_bytes: int
    boards_ms: tuple[float, ...] = ()
    links_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class WrappedLayer:
    """A layer that wraps an operation, such as ``x + 3.0``, because the operation is not a layer.

    Attributes:
        name: Name of the layer.
        operation: Class of the operation, such as ``keras.src.ops.numpy.Add``.
        constants: Arguments of the operation that are not tensors, such as ``x2=3.0``.
    """

    name: str
    operation: str
    constants: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.operation.rpartition('.')[2]}({', '.join(self.constants)})"


@dataclass(frozen=True)
class Stage:
    """One part of the model, and the boards that run the part. Several boards are a replica set.

    Attributes:
        index: Position in the pipeline, from 0.
        devices: Names of the boards.
        file: Path of the stage's ``.tflite`` file in the bundle.
        sha256: SHA-256 digest of ``file``, in hexadecimal digits.
        size_bytes: Size of ``file``, in bytes.
        inputs: Tensors that the stage reads: outputs of the previous stage, or the model's inputs.
        outputs: Tensors that the stage computes or passes on.
        predicted: The planner's prediction.
        layers: For people: names of the stage's layers in execution order, at most ``MAX_LAYERS``
            names with at most ``MAX_LAYER_CHARACTERS`` characters each. Empty: unknown.
        more_layers: Number of layers that ``layers`` leaves out.
        wrapped: For people: the stage's layers that wrap an operation, at most ``MAX_WRAPPED``.
        more_wrapped: Number of such layers that ``wrapped`` leaves out.
        state: Whether the stage has state that can last from one inference to the next.
            :attr:`ModelInfo.state` says whether the state is reset between requests.
    """

    index: int
    devices: tuple[str, ...]
    file: str
    sha256: str
    size_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    predicted: Predicted
    layers: tuple[str, ...] = ()
    more_layers: int = 0
    wrapped: tuple[WrappedLayer, ...] = ()
    more_wrapped: int = 0
    state: bool = False

    def board_times_ms(self) -> dict[str, tuple[float, float]]:
        """Return the predicted times of a request on each board, by the board's name.

        Returns:
            For each board, the time of the inference and the time for which the request occupies
            the board's link, in milliseconds. The second time is 0 if the manifest does not have
            it.
        """
        count = len(self.devices)
        invoke_ms = self.predicted.boards_ms or (self.predicted.invoke_ms,) * count
        links_ms = self.predicted.links_ms or (0.0,) * count
        return dict(zip(self.devices, zip(invoke_ms, links_ms, strict=True), strict=True))


@dataclass(frozen=True)
class ModelInfo:
    """The model of a deployment.

    Attributes:
        name: Name of the model, for people.
        sha256: SHA-256 digest of ``whole.tflite``, in hexadecimal digits.
        quantization: ``none``, ``float16``, ``dynamic``, ``int8``, or ``as-given`` for a
            ``.tflite`` file that another program converted.
        weights: Source of the weights: ``trained``, ``imagenet`` or ``seeded``. With ``seeded``,
            labels have no meaning.
        labels: Names of the classes along the last axis of the first output; may be empty.
        wire: For people: ``float16`` if float32 activations at one or more cuts are sent as
            float16, with half the bytes; else ``float32``. Boards do not read this field: each
            tensor has its own dtype.
        state: What happens to the model's state between requests, one of :data:`STATES`.
            ``reset``: each request starts from the initial state, as on a new interpreter.
            ``keep``: each request of a client continues from the state after the client's previous
            request.
        detections: Layout of the outputs if they describe boxes, one of :data:`DETECTIONS`.
    """

    name: str
    sha256: str
    quantization: str
    weights: str = "trained"
    labels: tuple[str, ...] = ()
    wire: str = "float32"
    state: str = ""
    detections: str = ""


@dataclass(frozen=True)
class Manifest:
    """A deployment: the model, the stages, and the tensors between the stages.

    Attributes:
        deployment: Name of the deployment.
        generation: Identifier of this version of the deployment.
        model: The model.
        inputs: Inputs of the model.
        outputs: Outputs of the model.
        stages: Stages in pipeline order.
        needs: Features that an agent must support to serve the deployment.
    """

    deployment: str
    generation: str
    model: ModelInfo
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stages: tuple[Stage, ...]
    needs: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the manifest as indented JSON, the text of ``manifest.json``."""
        document = {"schema": SCHEMA, **asdict(self)}
        _leave_out(document, ("needs",))
        _leave_out(document["model"], ("state", "detections"))
        ends = [document, *document["stages"]]
        for stage in document["stages"]:
            _leave_out(stage, _OPTIONAL)
            _leave_out(stage["predicted"], ("boards_ms", "links_ms"))
        for tensor in (item for end in ends for item in (*end["inputs"], *end["outputs"])):
            _leave_out(tensor, _OPTIONAL_OF_TENSORS)
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read and check a manifest.

        Raises:
            ManifestError: The text is not JSON, a field is missing or of the wrong type, or the
                stages do not form a pipeline.
        """
        try:
            manifest = _read_manifest(parse_json(text, "manifest"))
        except FieldError as error:
            raise ManifestError(f"The manifest can't be used: {error}") from None
        _check_pipeline(manifest)
        return manifest

    @property
    def is_routed(self) -> bool:
        """Whether each request names the boards that must serve it, one for each stage."""
        return NEEDS_ROUTE in self.needs

    @property
    def boards(self) -> int:
        """Number of boards that serve the deployment, including replicas."""
        return len({device for stage in self.stages for device in stage.devices})

    def sent_by(self, index: int) -> tuple[TensorSpec, ...]:
        """Return the tensors that stage ``index`` publishes.

        The last stage publishes the outputs of the model. Every other stage publishes the inputs of
        the next stage. These may be only some of the stage's outputs.
        """
        if index + 1 < len(self.stages):
            return self.stages[index + 1].inputs
        return self.outputs

    def state_of(self, stage: Stage) -> str:
        """Return what happens to a stage's state between requests, one of :data:`STATES`.

        Empty: the stage keeps no state.
        """
        return (self.model.state or "reset") if stage.state else ""

    def stages_of(self, device: str) -> tuple[Stage, ...]:
        """Return the stages that ``device`` runs, in order."""
        return tuple(stage for stage in self.stages if device in stage.devices)


def _leave_out(fields: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Delete the fields in ``keys`` that have an empty value."""
    for key in keys:
        if not fields[key]:
            del fields[key]


def _read_manifest(fields: Field) -> Manifest:
    schema = fields.get("schema").value
    if schema != SCHEMA or not isinstance(schema, int) or isinstance(schema, bool):
        raise ManifestError(
            f"The manifest has schema {shorten(schema)}; expected {SCHEMA}. Split the model again, "
            "or install the version of edge-partition that wrote the manifest."
        )
    model = fields["model"]
    return Manifest(
        deployment=fields["deployment"].name(),
        generation=fields["generation"].name(),
        model=ModelInfo(
            name=model["name"].text(),
            sha256=model["sha256"].sha256(),
            quantization=model["quantization"].text(),
            weights=model.get("weights", "trained").text(),
            labels=tuple(label.text() for label in model.get("labels", []).items()),
            wire=model.get("wire", "float32").text(),
            state=model.get("state", "").one_of(STATES),
            detections=model.get("detections", "").one_of(DETECTIONS),
        ),
        inputs=_tensors(fields["inputs"]),
        outputs=_tensors(fields["outputs"]),
        stages=tuple(_stage(stage) for stage in fields["stages"].items()),
        needs=tuple(need.text() for need in fields.get("needs", []).items()),
    )


def _stage(fields: Field) -> Stage:
    predicted = fields["predicted"]
    index = fields["index"].whole()
    file = fields["file"]
    if file.text() != f"stages/{index}.tflite":
        raise file.wrong(f"'stages/{shorten(index)}.tflite', named for the stage's index")
    devices = tuple(device.name() for device in fields["devices"].items())
    if not devices or len(set(devices)) != len(devices):
        raise fields["devices"].wrong("one or more board names, each only once")
    boards_ms, links_ms = (
        _numbers_of_boards(predicted, key, len(devices)) for key in ("boards_ms", "links_ms")
    )
    layers, more_layers = _some(fields, "layers", _layer, MAX_LAYERS)
    wrapped, more_wrapped = _some(fields, "wrapped", _wrapped, MAX_WRAPPED)
    return Stage(
        index=index,
        devices=devices,
        file=file.text(),
        sha256=fields["sha256"].sha256(),
        size_bytes=fields["size_bytes"].whole(),
        inputs=_tensors(fields["inputs"]),
        outputs=_tensors(fields["outputs"]),
        predicted=Predicted(
            invoke_ms=predicted["invoke_ms"].number(),
            ram_bytes=predicted["ram_bytes"].whole(),
            boards_ms=boards_ms,
            links_ms=links_ms,
        ),
        layers=layers,
        more_layers=more_layers,
        wrapped=wrapped,
        more_wrapped=more_wrapped,
        state=fields.get("state", False).truth(),
    )


def _some(
    fields: Field, key: str, read: Callable[[Field], _T], limit: int
) -> tuple[tuple[_T, ...], int]:
    """Return at most ``limit`` elements of an optional list, and the number of those left out."""
    field = fields.get(key, [])
    more = fields.get(f"more_{key}", 0).whole()
    items = tuple(read(item) for item in field.first(limit).items())
    return items, more + len(field.value) - len(items)


def _layer(field: Field) -> str:
    return field.text()[:MAX_LAYER_CHARACTERS]


def _wrapped(fields: Field) -> WrappedLayer:
    return WrappedLayer(
        name=_layer(fields["name"]),
        operation=_layer(fields["operation"]),
        constants=tuple(
            constant.text()[:MAX_CONSTANT_CHARACTERS]
            for constant in fields["constants"].first(MAX_CONSTANTS).items()
        ),
    )


def _numbers_of_boards(fields: Field, key: str, boards: int) -> tuple[float, ...]:
    numbers = tuple(item.number() for item in fields.get(key, []).items())
    if numbers and len(numbers) != boards:
        raise fields[key].wrong(f"{boards} numbers, one for each board")
    return numbers


def _tensors(field: Field) -> tuple[TensorSpec, ...]:
    specs = tuple(_tensor(item) for item in field.items())
    names = {spec.name for spec in specs}
    # Boards and clients tell tensors apart by name.
    if len(names) != len(specs):
        raise field.error(
            f"has {len(specs)} tensors with only {len(names)} different names; expected a "
            "different name for each tensor"
        )
    return specs


def _tensor(fields: Field) -> TensorSpec:
    pixels, quantized = fields.optional("pixels"), fields.optional("quantized")
    spec = TensorSpec(
        name=fields["name"].text(),
        dtype=fields["dtype"].one_of(ITEM_SIZE_BYTES),
        shape=tuple(size.whole() for size in fields["shape"].items()),
        pixels=None if pixels is None else _pixels(pixels),
        quantized=None if quantized is None else _quantized(quantized),
        scores=fields.get("scores", "").one_of(SCORES),
        rate_hz=fields.get("rate_hz", 0).whole(),
    )
    if spec.size_bytes > _MAX_TENSOR_BYTES:
        raise fields["shape"].error(
            f"is {shorten(list(spec.shape))}; expected a tensor of at most "
            f"{_MAX_TENSOR_BYTES:,} bytes, because one MQTT message carries no more"
        )
    return spec


def _pixels(fields: Field) -> Pixels:
    order = fields["order"].one_of(PIXEL_ORDERS)
    channels = 1 if order == "gray" else 3
    mean = tuple(item.number(-math.inf) for item in fields["mean"].items())
    std = tuple(item.number(above=True) for item in fields["std"].items())
    for key, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in {1, channels}:
            raise fields[key].error(
                f"has {len(numbers)} numbers; expected 1, or one for each channel of {order}"
            )
    return Pixels(
        order=order,
        mean=mean,
        std=std,
        unit=fields.get("unit", 1.0).number(above=True),
        resize=fields.get("resize", "bilinear").one_of(RESIZE_FILTERS),
        fit=fields.get("fit", "stretch").one_of(PIXEL_FITS),
        said_by=fields.get("said_by", "guess").one_of(PIXEL_SOURCES),
    )


def _quantized(fields: Field) -> Quantized:
    zero_point = fields["zero_point"].number(-math.inf)
    if not zero_point.is_integer():
        raise fields["zero_point"].wrong("a whole number")
    return Quantized(fields["scale"].number(above=True), int(zero_point))


def _check_pipeline(manifest: Manifest) -> None:
    """Check that every stage gets its inputs from the previous stage, and the first from the model.

    The function also checks the order of the stages and the last stage's outputs.
    """
    if not manifest.stages:
        raise ManifestError("The manifest has no stages; expected at least one.")
    model_inputs = {spec.name: spec for spec in manifest.inputs}
    available = dict(model_inputs)
    for position, stage in enumerate(manifest.stages):
        where = f"The manifest's stages[{position}]"
        if stage.index != position:
            raise ManifestError(f"{where}.index is {shorten(stage.index)}; expected {position}.")
        for spec in stage.inputs:
            if available.get(spec.name) != spec:
                raise ManifestError(
                    f"{where}.inputs has {shorten(spec.name)}; expected an output of the previous "
                    "stage (first stage: an input of the model) with this name, dtype and shape."
                )
        if stage.state and len(stage.devices) > 1:
            raise ManifestError(
                f"{where} keeps state and names {len(stage.devices)} devices; expected one, "
                "because each replica would have a state of its own."
            )
        # A later stage may name a model input only if every earlier stage passed the input on.
        available = {spec.name: spec for spec in stage.outputs}
    if manifest.stages[-1].outputs != manifest.outputs:
        raise ManifestError(
            f"The manifest's stages[{len(manifest.stages) - 1}].outputs differ from the model's "
            "outputs; expected the same tensors, because this stage is the last."
        )
