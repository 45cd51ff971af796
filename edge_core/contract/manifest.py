"""``manifest.json``: which board runs which part of a model, and what crosses between them.

The manifest is the contract between host, agents and clients (DESIGN, "Bundle"). Everything here
is pure: bytes in, frozen dataclasses out, and back. Reading checks every field, since manifests
arrive from disks and brokers.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from edge_core.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

SCHEMA = 1

#: Bytes of one element, by dtype name as numpy spells it.
ITEM_SIZE_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
    "complex64": 8, "complex128": 16,
}  # fmt: skip

#: A name that is one MQTT topic level and one file name: no ``/``, ``+``, ``#``, no leading dot.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
#: Shows a wrong value in an error's one line, however long or deep it is.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxlong = 80
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
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"The manifest is not JSON: {error}") from None
        manifest = _read_manifest(document)
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


def _read_manifest(document: Any) -> Manifest:
    fields = _object(document, "manifest")
    schema = fields.get("schema")
    if schema != SCHEMA or not isinstance(schema, int) or isinstance(schema, bool):
        raise ManifestError(
            f"The manifest has schema {_REPR.repr(schema)}; this version reads {SCHEMA}. "
            "Split the model again, or install the version that wrote it."
        )
    model = _object(_get(fields, "model", "manifest"), "model")
    return Manifest(
        deployment=_name(_get(fields, "deployment", "manifest"), "deployment"),
        generation=_name(_get(fields, "generation", "manifest"), "generation"),
        model=ModelInfo(
            name=_text(_get(model, "name", "model"), "model.name"),
            sha256=_sha256(_get(model, "sha256", "model"), "model.sha256"),
            quantization=_text(_get(model, "quantization", "model"), "model.quantization"),
            weights=_text(model.get("weights", "trained"), "model.weights"),
            labels=_items(model.get("labels", []), "model.labels", _text),
            wire=_text(model.get("wire", "float32"), "model.wire"),
            state=_one_of(model.get("state", ""), "model.state", STATES),
            detections=_one_of(model.get("detections", ""), "model.detections", DETECTIONS),
        ),
        inputs=_tensors(_get(fields, "inputs", "manifest"), "inputs"),
        outputs=_tensors(_get(fields, "outputs", "manifest"), "outputs"),
        stages=_items(_get(fields, "stages", "manifest"), "stages", _stage),
        needs=_items(fields.get("needs", []), "needs", _text),
    )


def _stage(value: Any, where: str) -> Stage:
    fields = _object(value, where)
    predicted = _object(_get(fields, "predicted", where), f"{where}.predicted")
    index = _whole(_get(fields, "index", where), f"{where}.index")
    file = _text(_get(fields, "file", where), f"{where}.file")
    if file != f"stages/{index}.tflite":
        raise ManifestError(
            f"{where}.file is {_REPR.repr(file)}; expected 'stages/INDEX.tflite' with the stage's "
            f"index {_REPR.repr(index)}."
        )
    devices = _items(_get(fields, "devices", where), f"{where}.devices", _name)
    if not devices or len(set(devices)) != len(devices):
        raise ManifestError(
            f"{where}.devices is {_REPR.repr(list(devices))}; expected distinct names."
        )
    layers, more_layers = _some(fields, "layers", where, _layer, MAX_LAYERS)
    wrapped, more_wrapped = _some(fields, "wrapped", where, _wrapped, MAX_WRAPPED)
    return Stage(
        index=index,
        devices=devices,
        file=file,
        sha256=_sha256(_get(fields, "sha256", where), f"{where}.sha256"),
        size_bytes=_whole(_get(fields, "size_bytes", where), f"{where}.size_bytes"),
        inputs=_tensors(_get(fields, "inputs", where), f"{where}.inputs"),
        outputs=_tensors(_get(fields, "outputs", where), f"{where}.outputs"),
        predicted=Predicted(
            invoke_ms=_number(
                _get(predicted, "invoke_ms", f"{where}.predicted"), f"{where}.predicted.invoke_ms"
            ),
            ram_bytes=_whole(
                _get(predicted, "ram_bytes", f"{where}.predicted"), f"{where}.predicted.ram_bytes"
            ),
        ),
        layers=layers,
        more_layers=more_layers,
        wrapped=wrapped,
        more_wrapped=more_wrapped,
        state=_truth(fields.get("state", False), f"{where}.state"),
    )


def _some(
    fields: dict[str, Any], key: str, where: str, read: Callable[[Any, str], _T], limit: int
) -> tuple[tuple[_T, ...], int]:
    """Read the first items of an optional list; return how many more there are, too."""
    items = fields.get(key, [])
    more = _whole(fields.get(f"more_{key}", 0), f"{where}.more_{key}")
    if not isinstance(items, list):
        return _items(items, f"{where}.{key}", read), more
    return _items(items[:limit], f"{where}.{key}", read), more + max(0, len(items) - limit)


def _layer(value: Any, where: str) -> str:
    return _text(value, where)[:MAX_LAYER_CHARACTERS]


def _wrapped(value: Any, where: str) -> WrappedLayer:
    fields = _object(value, where)
    constants = _get(fields, "constants", where)
    return WrappedLayer(
        name=_layer(_get(fields, "name", where), f"{where}.name"),
        operation=_layer(_get(fields, "operation", where), f"{where}.operation"),
        constants=_items(
            constants[:MAX_CONSTANTS] if isinstance(constants, list) else constants,
            f"{where}.constants",
            lambda item, at: _text(item, at)[:MAX_CONSTANT_CHARACTERS],
        ),
    )


def _tensors(value: Any, where: str) -> tuple[TensorSpec, ...]:
    specs = _items(value, where, _tensor)
    names = {spec.name for spec in specs}
    # Tensors are told apart by name, on boards and in clients.
    if len(names) != len(specs):
        raise ManifestError(f"{where} has {len(specs)} tensors of {len(names)} names.")
    return specs


def _tensor(value: Any, where: str) -> TensorSpec:
    fields = _object(value, where)
    dtype = _text(_get(fields, "dtype", where), f"{where}.dtype")
    if dtype not in ITEM_SIZE_BYTES:
        raise ManifestError(
            f"{where}.dtype is {_REPR.repr(dtype)}; expected one of {', '.join(ITEM_SIZE_BYTES)}."
        )
    spec = TensorSpec(
        name=_text(_get(fields, "name", where), f"{where}.name"),
        dtype=dtype,
        shape=_items(_get(fields, "shape", where), f"{where}.shape", _whole),
        pixels=_optional(fields, "pixels", where, _pixels),
        quantized=_optional(fields, "quantized", where, _quantized),
        scores=_one_of(fields.get("scores", ""), f"{where}.scores", SCORES),
        rate_hz=_whole(fields.get("rate_hz", 0), f"{where}.rate_hz"),
    )
    if spec.size_bytes > _MAX_TENSOR_BYTES:
        raise ManifestError(
            f"{where}.shape is {_REPR.repr(list(spec.shape))}; one MQTT message carries at most "
            f"{_MAX_TENSOR_BYTES:,} bytes."
        )
    return spec


def _pixels(value: Any, where: str) -> Pixels:
    fields = _object(value, where)
    order = _one_of(_get(fields, "order", where), f"{where}.order", PIXEL_ORDERS)
    channels = 1 if order == "gray" else 3
    mean, std = (
        _items(_get(fields, key, where), f"{where}.{key}", _signed) for key in ("mean", "std")
    )
    unit = _signed(fields.get("unit", 1.0), f"{where}.unit")
    for key, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in {1, channels}:
            raise ManifestError(
                f"{where}.{key} has {len(numbers)} numbers; expected 1 or {channels} for {order}."
            )
    if min(*std, unit) <= 0:
        raise ManifestError(f"{where}.std and {where}.unit must be above 0.")
    return Pixels(
        order=order,
        mean=mean,
        std=std,
        unit=unit,
        resize=_one_of(fields.get("resize", "bilinear"), f"{where}.resize", RESIZE_FILTERS),
        fit=_one_of(fields.get("fit", "stretch"), f"{where}.fit", PIXEL_FITS),
        said_by=_one_of(fields.get("said_by", "guess"), f"{where}.said_by", PIXEL_SOURCES),
    )


def _quantized(value: Any, where: str) -> Quantized:
    fields = _object(value, where)
    scale = _number(_get(fields, "scale", where), f"{where}.scale")
    zero_point = _signed(_get(fields, "zero_point", where), f"{where}.zero_point")
    if not scale or not zero_point.is_integer():
        raise ManifestError(
            f"{where} has scale {scale} and zero point {zero_point}; expected a scale above 0 and "
            "a whole number."
        )
    return Quantized(scale, int(zero_point))


def _check_pipeline(manifest: Manifest) -> None:
    """Check that each stage's inputs are there when it runs (DESIGN, "Bundle")."""
    if not manifest.stages:
        raise ManifestError("The manifest has no stages; expected at least one.")
    model_inputs = {spec.name: spec for spec in manifest.inputs}
    available = dict(model_inputs)
    for position, stage in enumerate(manifest.stages):
        where = f"stages[{position}]"
        if stage.index != position:
            raise ManifestError(f"{where}.index is {_REPR.repr(stage.index)}; expected {position}.")
        for spec in stage.inputs:
            if available.get(spec.name) != spec:
                raise ManifestError(
                    f"{where}.inputs names {_REPR.repr(spec.name)}, which neither the stage before "
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


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{where} is {type(value).__name__}; expected an object.")
    return value


def _get(fields: dict[str, Any], key: str, where: str) -> Any:
    if key not in fields:
        raise ManifestError(f"{where} has no field {key!r}.")
    return fields[key]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ManifestError(f"{where} is {_REPR.repr(value)}; expected a string.")
    return value


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise ManifestError(
            f"{where} is {_REPR.repr(value)}; expected letters, digits, '.', '_' and '-', "
            "128 at most."
        )
    return value


def _sha256(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _SHA256_PATTERN.fullmatch(value):
        raise ManifestError(f"{where} is {_REPR.repr(value)}; expected 64 hexadecimal digits.")
    return value


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ManifestError(f"{where} is {_REPR.repr(value)}; expected a whole number, 0 or more.")
    return value


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ManifestError(f"{where} is {_REPR.repr(value)}; expected true or false.")
    return value


def _one_of(value: Any, where: str, choices: tuple[str, ...]) -> str:
    text = _text(value, where)
    if text not in choices:
        raise ManifestError(
            f"{where} is {_REPR.repr(text)}; expected one of "
            f"{', '.join(choice for choice in choices if choice)}."
        )
    return text


def _optional(
    fields: dict[str, Any], key: str, where: str, read: Callable[[Any, str], _T]
) -> _T | None:
    return None if fields.get(key) is None else read(fields[key], f"{where}.{key}")


def _signed(value: Any, where: str) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # A whole number beyond the largest float.
        pass
    raise ManifestError(f"{where} is {_REPR.repr(value)}; expected a finite number.")


def _number(value: Any, where: str) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
            return float(value)
    except OverflowError:  # A whole number beyond the largest float.
        pass
    raise ManifestError(f"{where} is {_REPR.repr(value)}; expected a finite number, 0 or more.")


def _items(value: Any, where: str, read: Callable[[Any, str], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list):
        raise ManifestError(f"{where} is {type(value).__name__}; expected a list.")
    return tuple(read(item, f"{where}[{position}]") for position, item in enumerate(value))
