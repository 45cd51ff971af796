"""``manifest.json``: which board runs which part of a model, and what crosses between them.

The manifest is the contract between host, agents and clients (DESIGN, "Bundle"). Everything here
is pure: bytes in, frozen dataclasses out, and back. Reading checks every field, since manifests
arrive from disks and brokers.
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

#: Bytes of one element, by dtype name as numpy spells it.
ITEM_SIZE_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
    "complex64": 8, "complex128": 16,
}  # fmt: skip

#: The largest tensor a manifest may name: the MQTT packet limit (MQTT 5.0, section 2.1.4).
_MAX_TENSOR_BYTES = 268_435_455

#: How much a manifest says of what is in a stage. It is one retained message, read by small boards:
#: 1,000 operators in 2 stages stay below 200 kB at worst.
MAX_LAYERS = 256
MAX_LAYER_CHARACTERS = 100
MAX_WRAPPED = 64
MAX_CONSTANTS = 8
MAX_CONSTANT_CHARACTERS = 60
#: Fields that are left out where there is nothing to tell.
_TOLD = ("layers", "more_layers", "wrapped", "more_wrapped", "state")
_TOLD_OF_TENSORS = ("pixels", "quantized", "scores", "rate_hz")

PIXEL_ORDERS = ("rgb", "bgr", "gray")
RESIZE_FILTERS = ("bilinear", "bicubic", "nearest", "area")
PIXEL_FITS = ("stretch", "crop", "letterbox")
#: Who says what a picture becomes: Keras's ``preprocess_input`` for an application, a ``.tflite``'s
#: metadata, the scale and zero point of an integer input, the person, or nobody.
PIXEL_SOURCES = ("application", "metadata", "quantization", "option", "guess")
#: What the scores of an output are; empty where nobody says.
SCORES = ("", "probabilities", "logits")
#: What becomes of a model's state from one request to the next; empty: it keeps none.
STATES = ("", "reset", "keep")
#: What the outputs are, where they are boxes: SSD's four tensors, or a YOLO head.
DETECTIONS = ("", "ssd", "yolo")
#: In ``Manifest.needs``: an agent must understand :attr:`Stage.state`.
NEEDS_STATE = "state"


@dataclass(frozen=True)
class Pixels:
    """What a picture's values become before they go into a model.

    A picture is resized as ``resize`` and ``fit`` say, its channels put in ``order``, and each
    value ``v`` from 0 to 255 becomes ``(v / unit - mean / unit) / (std / unit)``, computed in
    float32 from left to right: ``(v - mean) / std``, and ``unit`` settles the last bit.

    Attributes:
        order: One of :data:`PIXEL_ORDERS`.
        mean: One number a channel, or one for all, in the order of ``order``.
        std: Likewise; above 0.
        unit: What Keras's own ``preprocess_input`` divides by first; above 0.
        resize: One of :data:`RESIZE_FILTERS`.
        fit: One of :data:`PIXEL_FITS`: the whole picture stretched to the model's height and
            width; its middle cut out; the whole picture with gray bars.
        said_by: Who says so, one of :data:`PIXEL_SOURCES`.
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
    """How integers stand for real values: ``real = (integer - zero_point) * scale``."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that crosses a boundary.

    Two are equal when name, dtype and shape are: the other fields tell people and clients what the
    values of a model's inputs and outputs mean.

    Attributes:
        name: The tensor's name in the ``.tflite`` file.
        dtype: numpy's name for the element type, such as ``float32``.
        shape: Fixed dimensions.
        pixels: Of an input that takes pictures: what becomes of them.
        quantized: Of an integer tensor that stands for real values.
        scores: Of an output, ``probabilities`` or ``logits`` where that is known, else empty.
        rate_hz: Of an input that takes sound: samples a second; 0 where that is not known.
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
        """Bytes of the tensor on the wire and in memory."""
        return math.prod(self.shape) * ITEM_SIZE_BYTES[self.dtype]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Predicted:
    """What the planner expects of a stage.

    Attributes:
        invoke_ms: Milliseconds for one inference.
        ram_bytes: Resident bytes of an agent that serves this stage alone.
    """

    invoke_ms: float
    ram_bytes: int


@dataclass(frozen=True)
class WrappedLayer:
    """An operation of the model that was no layer, and the constants it is called with.

    Attributes:
        name: The layer that it became.
        operation: Its class, such as ``keras.src.ops.numpy.Add``.
        constants: Its arguments that are not tensors, such as ``x2=3.0``.
    """

    name: str
    operation: str
    constants: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.operation.rpartition('.')[2]}({', '.join(self.constants)})"


@dataclass(frozen=True)
class Stage:
    """One part of the model and the boards that run it (more than one: replicas).

    Attributes:
        index: Its place in the pipeline.
        devices: The boards.
        file: Its ``.tflite``, by its place in the bundle.
        sha256: Of ``file``.
        size_bytes: Of ``file``.
        inputs: What it reads: outputs of the stage before it, or the model's inputs.
        outputs: What it makes and passes on.
        predicted: What the planner expects.
        layers: For people: the names of layers in it, in the order in which they run; at most
            ``MAX_LAYERS`` of ``MAX_LAYER_CHARACTERS``. Empty: not told.
        more_layers: How many more there are.
        wrapped: For people: those of its layers that were bare operations; at most
            ``MAX_WRAPPED``.
        more_wrapped: How many more there are.
        state: Whether it keeps state from one inference to the next, which
            :attr:`ModelInfo.state` rules.
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


@dataclass(frozen=True)
class ModelInfo:
    """The model a deployment came from.

    Attributes:
        name: For people.
        sha256: Of ``whole.tflite``.
        quantization: ``none``, ``float16``, ``dynamic``, ``int8``, or ``as-given`` for a
            ``.tflite`` that somebody else converted.
        weights: Where the weights came from: ``trained``, ``imagenet`` or ``seeded``. With
            ``seeded`` labels mean nothing.
        labels: The names of the classes along the last axis of the first output; may be empty.
        wire: As what float32 activations travel between stages: ``float32``, or ``float16`` in half
            the bytes. For people: each boundary tensor's own dtype is what counts.
        state: One of :data:`STATES`. ``reset``: each request starts from the initial state, as on
            a fresh interpreter. ``keep``: state goes on from one request of a client to its next.
        detections: One of :data:`DETECTIONS`.
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
    """A deployment: its model, its stages, and the tensors between them.

    ``needs`` names what an agent must understand to serve it rightly.
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
            _leave_out(stage, _TOLD)
        for tensor in (item for end in ends for item in (*end["inputs"], *end["outputs"])):
            _leave_out(tensor, _TOLD_OF_TENSORS)
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
    def boards(self) -> int:
        """How many boards serve the deployment, replicas counted."""
        return sum(len(stage.devices) for stage in self.stages)

    def sent_by(self, index: int) -> tuple[TensorSpec, ...]:
        """Return what stage ``index`` publishes: what the next one reads, or the model's outputs.

        A stage may make more than the next one reads; only what is read travels.
        """
        if index + 1 < len(self.stages):
            return self.stages[index + 1].inputs
        return self.outputs

    def state_of(self, stage: Stage) -> str:
        """Return what becomes of a stage's state, one of :data:`STATES`; empty: it keeps none."""
        return (self.model.state or "reset") if stage.state else ""

    def stages_of(self, device: str) -> tuple[Stage, ...]:
        """Return the stages that ``device`` runs, in order."""
        return tuple(stage for stage in self.stages if device in stage.devices)


def _leave_out(fields: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Delete those of ``keys`` that tell nothing."""
    for key in keys:
        if not fields[key]:
            del fields[key]


def _read_manifest(fields: Field) -> Manifest:
    schema = fields.get("schema").value
    if schema != SCHEMA or not isinstance(schema, int) or isinstance(schema, bool):
        raise ManifestError(
            f"The manifest has schema {shorten(schema)}; this version reads {SCHEMA}. "
            "Split the model again, or install the version that wrote it."
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
        raise file.wrong(f"'stages/INDEX.tflite' with the stage's index {shorten(index)}")
    devices = tuple(device.name() for device in fields["devices"].items())
    if not devices or len(set(devices)) != len(devices):
        raise fields["devices"].wrong("distinct names")
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
            invoke_ms=predicted["invoke_ms"].number(), ram_bytes=predicted["ram_bytes"].whole()
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
    """Read the first elements of an optional list, and count the rest."""
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


def _tensors(field: Field) -> tuple[TensorSpec, ...]:
    specs = tuple(_tensor(item) for item in field.items())
    names = {spec.name for spec in specs}
    # Boards and clients tell tensors apart by name.
    if len(names) != len(specs):
        raise field.error(f"has {len(specs)} tensors of {len(names)} names")
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
            f"is {shorten(list(spec.shape))}; one MQTT message carries at most "
            f"{_MAX_TENSOR_BYTES:,} bytes"
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
                f"has {len(numbers)} numbers; expected 1 or {channels} for {order}"
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
    """Check that each stage's inputs are there when it runs (DESIGN, "Bundle")."""
    if not manifest.stages:
        raise ManifestError("The manifest has no stages; expected at least one.")
    model_inputs = {spec.name: spec for spec in manifest.inputs}
    available = dict(model_inputs)
    for position, stage in enumerate(manifest.stages):
        where = f"stages[{position}]"
        if stage.index != position:
            raise ManifestError(f"{where}.index is {shorten(stage.index)}; expected {position}.")
        for spec in stage.inputs:
            if available.get(spec.name) != spec:
                raise ManifestError(
                    f"{where}.inputs names {shorten(spec.name)}, which neither the stage before "
                    "it nor the model's inputs provide with that dtype and shape."
                )
        if stage.state and len(stage.devices) > 1:
            raise ManifestError(
                f"{where} keeps state and names {len(stage.devices)} devices; expected one, since "
                "replicas would each have a state of their own."
            )
        # A later stage may name a model input only if every stage before it passed it on.
        available = {spec.name: spec for spec in stage.outputs}
    if manifest.stages[-1].outputs != manifest.outputs:
        raise ManifestError(
            f"stages[{len(manifest.stages) - 1}].outputs, the last stage's, are not the model's "
            "outputs."
        )
