"""Collect the facts about a model's inputs and outputs from all sources, with notes for the user.

The sources of a pixel format, in descending priority, are: the user's options, the name of the
Keras application, the metadata of the ``.tflite`` file, and the input's scale and zero point. If no
source gives the pixel format, the pixel format is guessed, and a note tells the user that it is a
guess.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_core.contract.manifest import Pixels, TensorSpec
from edge_partition.facts.application_pixels import application_pixels
from edge_partition.facts.guess_pixels import (
    FOLDED_BELOW,
    FirstSteps,
    calibrated_range,
    first_steps,
    pixels_of_range,
)
from edge_partition.facts.model_facts import ModelFacts, PictureOptions
from edge_partition.facts.read_labels import fit_labels, labels_beside, read_labels_file
from edge_partition.inputs.describe_pixels import describe_pixels, parse_pixels
from edge_partition.inputs.picture_layout import picture_layout
from edge_partition.inputs.pixels import (
    IMAGENET,
    IMAGENET_BGR,
    MINUS_ONE_TO_ONE,
    PixelsError,
    default_pixels,
    value_range,
)
from edge_partition.tflite.graph import layer_paths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edge_partition.inputs.picture_layout import PictureLayout
    from edge_partition.tflite.graph import Graph
    from edge_partition.tflite.read_tflite import TfliteModel
    from edge_partition.tflite.tflite_metadata import TensorMetadata, TfliteMetadata

_SSD = "TFLite_Detection_PostProcess"
_SCORING = frozenset({"SOFTMAX", "LOGISTIC"})
_KEEP_SCORES = frozenset({"RESHAPE", "DEQUANTIZE", "QUANTIZE", "SQUEEZE", "CAST"})
#: A range of pixels is wide if its width exceeds this value. Wide ranges are 0 to 255, or 0 to 255
#: minus a mean.
_WIDE_RANGE = 64
#: The pixel range in the metadata may be wider than the range that the input can represent, by this
#: factor at most. With a larger factor, the metadata belongs to another model.
_SATURATES = 1.5
#: If the first operators or the first filters multiply values by this factor or more, the model was
#: probably trained on small values.
_ENLARGES = 16.0
#: Value of ``--pixels`` for each pixel format other than 0 to 255, by the mean of the pixel format.
_OPTIONS = {
    MINUS_ONE_TO_ONE.mean: "-1..1",
    IMAGENET.mean: "imagenet",
    IMAGENET_BGR.mean: "imagenet-bgr",
}
_PIXELS_ADVICE = "If this is wrong, give --pixels -1..1, 0..1, imagenet or MEAN/STD."


@dataclass(frozen=True)
class StatedFacts:
    """Facts that the model's file or the Keras model states.

    Attributes:
        application: Name of the Keras model, which may be the name of an application; empty if
            unknown.
        labels: Class names that belong to the model; may be empty.
        metadata: Metadata in the ``.tflite`` file; None without metadata.
        file: The model's file; None if the model has no file. A labels file may be in the same
            folder.
        notes: Notes for the user about the loading of the model.
        is_converted_here: Whether this program converted the model to TFLite. In this case, the
            scales of a quantized model come from the user's calibration inputs.
    """

    application: str = ""
    labels: tuple[str, ...] = ()
    metadata: TfliteMetadata | None = None
    file: Path | None = None
    notes: tuple[str, ...] = ()
    is_converted_here: bool = False


def find_facts(
    tflite: TfliteModel, stated: StatedFacts, picture: PictureOptions | None = None
) -> ModelFacts:
    """Return the facts about a model, with notes for the user.

    Args:
        tflite: The model.
        stated: Facts that the model's file or the Keras model states.
        picture: The user's options for the model's pictures and classes; None for no options.

    Raises:
        PixelsError: The user's options for pictures do not fit the model.
        LabelsError: The user's labels file can't be read or does not fit the model.
    """
    picture = picture or PictureOptions()
    graph = tflite.graph
    specs = [_spec(graph, index) for index in graph.inputs]
    steps = {graph.tensors[index].name: first_steps(tflite, index) for index in graph.inputs}
    pixels = input_pixels(specs, stated, picture, steps=steps)
    detections = _detections(graph, stated.metadata)
    scores, score_notes = _scores(graph, logits=picture.logits)
    labels, label_notes = _labels(graph, stated, picture.labels, detections=detections)
    metadata_notes = stated.metadata.notes if stated.metadata is not None else ()
    return ModelFacts(
        labels=labels,
        pixels=pixels,
        rate_hz=_rates(specs, stated.metadata),
        scores=scores,
        detections=detections,
        notes=(
            *stated.notes,
            *_output_notes(tflite),
            *metadata_notes,
            *_pixel_notes(pixels, steps, stated, _inner_application(graph)),
            *score_notes,
            *label_notes,
        ),
    )


def input_pixels(
    specs: Sequence[TensorSpec],
    stated: StatedFacts,
    picture: PictureOptions,
    *,
    steps: Mapping[str, FirstSteps] | None = None,
) -> dict[str, Pixels]:
    """Return the pixel format of each input that takes pictures, by input name.

    Args:
        specs: Inputs of the Keras model or of the TFLite graph.
        stated: Facts that the model's file or the Keras model states.
        picture: The user's options for pictures.
        steps: Effect of the first operators on each input, by input name; None before the
            conversion to TFLite.

    Raises:
        PixelsError: The user's options for pictures do not fit an input. Or the user gives such
            options, and no input takes pictures.
    """
    layouts = _picture_inputs(specs)
    if not layouts and any((picture.pixels, picture.resize, picture.fit)):
        layouts = _picture_inputs(specs, assume_pictures=True)
        if not layouts:
            raise PixelsError(
                "--pixels, --resize and --fit are for models that take pictures; this model takes "
                f"{', '.join(map(str, specs))}. Leave these options out."
            )
    metadata = _input_metadata(specs, stated.metadata)
    found = {}
    for spec in specs:
        if spec.name not in layouts:
            continue
        layout = layouts[spec.name]
        if picture.pixels is not None:
            pixels = parse_pixels(picture.pixels, channels=layout.channels)
            source = _source_pixels(spec, layout, stated, metadata.get(spec.name), None)
            pixels = replace(pixels, resize=source.resize, fit=source.fit)
        else:
            step = (steps or {}).get(spec.name)
            pixels = _source_pixels(spec, layout, stated, metadata.get(spec.name), step)
        found[spec.name] = replace(
            pixels, resize=picture.resize or pixels.resize, fit=picture.fit or pixels.fit
        )
    return found


def _spec(graph: Graph, index: int) -> TensorSpec:
    tensor = graph.tensors[index]
    return TensorSpec(tensor.name, tensor.dtype, tensor.shape, quantized=tensor.quantized)


def _picture_inputs(
    specs: Sequence[TensorSpec], *, assume_pictures: bool = False
) -> dict[str, PictureLayout]:
    """Return the layout of each input that takes pictures, by input name.

    In a model with several inputs, an input is a mask and not a picture if its shape has no channel
    dimension, or has one channel before height and width.

    Args:
        specs: Inputs of the model.
        assume_pictures: Whether to treat each input as a picture if its shape allows a picture. By
            default, the shape must show that the input is a picture.
    """
    found = {}
    for spec in specs:
        asked = replace(spec, pixels=Pixels("gray", (0.0,), (1.0,))) if assume_pictures else spec
        layout = picture_layout(asked)
        is_mask = layout is not None and (
            layout.channels == 0 or (layout.channels == 1 and layout.channels_first)
        )
        if layout is not None and not (is_mask and len(specs) > 1):
            found[spec.name] = layout
    return found


def _source_pixels(
    spec: TensorSpec,
    layout: PictureLayout,
    stated: StatedFacts,
    metadata: TensorMetadata | None,
    step: FirstSteps | None,
) -> Pixels:
    """Return an input's pixel format from the best source.

    The user's options are not among the sources here.

    Args:
        spec: The input.
        layout: The layout of the pictures in the input.
        stated: Facts that the model's file or the Keras model states.
        metadata: Metadata of this input; None without metadata.
        step: Effect of the first operators on the input; None if unknown.
    """
    gray = layout.channels in {0, 1}
    application = application_pixels(stated.application)
    if application is not None and layout.channels == 3:  # noqa: PLR2004
        return application
    if metadata is not None and metadata.normalization is not None:
        given = metadata.normalization
        mean, std = _of_channels(given.mean, layout), _of_channels(given.std, layout)
        order = "gray" if gray or metadata.color_space == "gray" else "rgb"
        if order == "gray":
            mean, std = mean[:1], std[:1]
        in_metadata = Pixels(order, mean, std, said_by="metadata")
        if not _saturates(in_metadata, spec):
            return in_metadata
    task = _ultralytics_task(stated.metadata)
    if task:
        # Source: ultralytics, data/augment.py. The class LetterBox pads pictures, and the function
        # classify_transforms crops pictures. Both scale pixels to 0..1.
        fit = "crop" if task == "classify" else "letterbox"
        scaled = parse_pixels("0..1", channels=layout.channels)
        return replace(scaled, fit=fit, said_by="metadata")
    spanned = _input_range(spec, step)
    if spanned is not None:
        low, high = spanned
        known = pixels_of_range(low, high)
        if known is not None and not (gray and len(known.mean) > 1):
            guessed = stated.is_converted_here and known.mean == (0.0,) and known.std == (1.0,)
            order = "gray" if gray else known.order
            return replace(known, order=order, said_by="guess" if guessed else "quantization")
        if spec.quantized is not None:
            # The input's smallest integer stands for pixel value 0, and the largest for 255.
            whole = parse_pixels(f"{low:.9g}..{high:.9g}", channels=layout.channels)
            return replace(whole, said_by="quantization")
    return default_pixels(layout)


def _of_channels(numbers: tuple[float, ...], layout: PictureLayout) -> tuple[float, ...]:
    """Return one number per channel, or a single number that applies to all channels.

    The result is ``numbers`` if the input has three channels and ``numbers`` are three numbers that
    differ. In all other cases, the result is only the first number.
    """
    fits = len(numbers) == 3 == layout.channels and len(set(numbers)) > 1  # noqa: PLR2004
    return numbers if fits else numbers[:1]


def _input_range(spec: TensorSpec, step: FirstSteps | None) -> tuple[float, float] | None:
    if spec.quantized is not None:
        return calibrated_range(spec.quantized, spec.dtype)
    return None if step is None else step.calibrated


def _saturates(pixels: Pixels, spec: TensorSpec) -> bool:
    """Return whether the range of the pixels is far wider than the range of the quantized input.

    In this case, the metadata that gives the pixel format belongs to another model.
    """
    if spec.quantized is None:
        return False
    (low, high), (least, most) = value_range(pixels), calibrated_range(spec.quantized, spec.dtype)
    return high - low > _SATURATES * (most - least)


def _input_metadata(
    specs: Sequence[TensorSpec], metadata: TfliteMetadata | None
) -> dict[str, TensorMetadata]:
    if metadata is None:
        return {}
    return dict(zip((spec.name for spec in specs), metadata.inputs, strict=False))


def _rates(specs: Sequence[TensorSpec], metadata: TfliteMetadata | None) -> dict[str, int]:
    found = _input_metadata(specs, metadata)
    return {name: tensor.rate_hz for name, tensor in found.items() if tensor.rate_hz}


def _ultralytics_task(metadata: TfliteMetadata | None) -> str:
    found: Mapping[str, Any] = (metadata.ultralytics if metadata is not None else None) or {}
    return str(found.get("task", "")) if found else ""


def _detections(graph: Graph, metadata: TfliteMetadata | None) -> str:
    makers = {index: op.kind for op in graph.operators for index in op.outputs}
    if any(makers.get(index) == _SSD for index in graph.outputs):
        return "ssd"
    return "yolo" if _ultralytics_task(metadata) == "detect" else ""


def _scores(graph: Graph, *, logits: bool) -> tuple[dict[str, str], list[str]]:
    """Return the kind of each output's scores by output name, and notes for the user.

    The kind is ``probabilities`` or ``logits``. Outputs of unknown kind are left out. The notes
    list the outputs on which the option ``--logits`` has no effect.

    Args:
        graph: The model's graph.
        logits: Whether the user gives the option ``--logits``.
    """
    makers = {index: op for op in graph.operators for index in op.outputs}
    scores, notes = {}, []
    for output in graph.outputs:
        tensor = graph.tensors[output]
        op = makers.get(output)
        while op is not None and op.kind in _KEEP_SCORES and op.inputs:
            op = makers.get(op.inputs[0])
        if op is not None and op.kind in _SCORING:
            scores[tensor.name] = "probabilities"
            if logits:
                notes.append(
                    f"--logits has no effect on output {tensor.name}: {op.kind} already makes "
                    "probabilities."
                )
        elif logits and (tensor.dtype.startswith("float") or tensor.quantized is not None):
            scores[tensor.name] = "logits"
    return scores, notes


def _labels(
    graph: Graph, stated: StatedFacts, file: Path | None, *, detections: str
) -> tuple[tuple[str, ...], list[str]]:
    """Return the class names, and notes for the user about changed or omitted names.

    Args:
        graph: The model's graph.
        stated: Facts that the model's file or the Keras model states.
        file: The user's labels file; None if the user gives none.
        detections: Layout of the boxes; empty for a model without boxes.
    """
    shapes = [graph.tensors[index].shape for index in graph.outputs]
    if file is not None:
        given = read_labels_file(file)
        labels, note = fit_labels(given, shapes, file, is_detector=bool(detections), strict=True)
        return labels, [note] if note else []
    metadata_labels = stated.metadata.labels if stated.metadata is not None else ()
    for names, where in (
        (
            stated.labels,
            stated.file.with_suffix(".labels.txt") if stated.file else "The model's labels",
        ),
        (metadata_labels, "The labels in the model's metadata"),
    ):
        if names:
            labels, note = fit_labels(names, shapes, where, is_detector=bool(detections))
            return labels, [note] if note else []
    if stated.file is not None:
        return labels_beside(stated.file, shapes)
    return (), []


def _inner_application(graph: Graph) -> str:
    """Return the name of a Keras application nested in the model; empty if there is none."""
    scopes = dict.fromkeys(
        scope
        for op in graph.operators
        for index in op.outputs
        for path in layer_paths(graph.tensors[index].name)
        for scope in path[:-1]
    )
    # A name without a digit, such as "mobilenet", may be the name of a user's own model.
    named = (scope for scope in scopes if any(map(str.isdigit, scope)))
    return next((scope for scope in named if application_pixels(scope) is not None), "")


def _output_notes(tflite: TfliteModel) -> list[str]:
    """Return a note for each tensor that the model's file lists more than once as an output."""
    main, graph = tflite.schema.Subgraphs(0), tflite.graph
    outputs = [main.Outputs(place) for place in range(main.OutputsLength())]
    again = dict.fromkeys(index for index in outputs if outputs.count(index) > 1)
    return [
        f"Outputs {', '.join(str(at) for at, other in enumerate(outputs) if other == index)} of "
        f"the model are the same tensor, {graph.tensors[index].name}. The tensor is returned once."
        for index in again
    ]


def _pixel_notes(
    pixels: Mapping[str, Pixels], steps: Mapping[str, FirstSteps], stated: StatedFacts, inner: str
) -> list[str]:
    """Return a note for each input whose pixel format is uncertain or probably wrong.

    Args:
        pixels: Pixel format of each picture input, by input name.
        steps: Effect of the first operators on each input, by input name.
        stated: Facts that the model's file or the Keras model states.
        inner: Name of a Keras application nested in the model; empty if there is none.
    """
    notes = []
    for name, taken in pixels.items():
        low, high = value_range(taken)
        step = steps.get(name, FirstSteps())
        what = f"Pictures go into {name} as {describe_pixels(taken)}"
        if taken.said_by == "guess":
            seen = _inner_evidence(inner, step) or f"{_evidence(step)} {_PIXELS_ADVICE}"
            notes.append(f"{what}. The model does not state its pixel format.{seen}")
        elif step.rescales and high - low < _WIDE_RANGE:
            notes.append(
                f"Warning: {what}, but the model's first operators multiply these values by "
                f"{step.factor:.3g}. The model probably takes 0..255: give --pixels 0..255."
            )
        elif taken.said_by == "application" and stated.file is not None:
            notes.append(
                f"{what}, because the model has the name of a Keras application, "
                f"{stated.application}. {_PIXELS_ADVICE}"
            )
        elif taken.said_by == "option" and step.keeps_large and high - low > _WIDE_RANGE:
            notes.append(f"Warning: {what}.{_evidence(step)}")
    return notes


def _inner_evidence(inner: str, step: FirstSteps) -> str:
    """Return a warning if the pixels do not reach a nested application in its pixel format.

    The result is empty if an operator before the nested application converts the pixels, or if the
    nested application takes pixels from 0 to 255.

    Args:
        inner: Name of a Keras application nested in the model; empty if there is none.
        step: Effect of the first operators on the input.
    """
    pixels = application_pixels(inner)
    option = _OPTIONS.get(pixels.mean) if pixels is not None else None
    if option is None or step.prepares:
        return ""
    return (
        f" Warning: the model contains Keras's {inner}, which takes another pixel format, and no "
        f"operator before {inner} converts the pixels. The option --pixels {option} is probably "
        "right."
    )


def _evidence(step: FirstSteps) -> str:
    if step.rescales:
        return (
            " The model's first operators confirm this pixel format: they multiply pixels by "
            f"{step.factor:.3g}."
        )
    if step.prepares:
        return " The model's first operators confirm this pixel format: they subtract a mean."
    if max(step.factor, step.filter_norm or 0) >= _ENLARGES:
        return (
            " Warning: the model's first operators multiply pixels by large numbers, so the model "
            "was probably trained on small values. The option --pixels 0..1 is probably right."
        )
    if step.filter_norm is not None and step.filter_norm < FOLDED_BELOW and not step.prepares:
        return " The model's first filters confirm this pixel format: their weights are small."
    if step.keeps_large:
        return (
            " Warning: the model's first operators do not rescale pixels, so the model was "
            "probably trained on values other than 0..255."
        )
    return ""
