"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from edge_core.contract.manifest import PIXEL_FITS, RESIZE_FILTERS
from edge_core.program.click_program import combined
from edge_partition.facts.model_facts import PictureOptions
from edge_partition.inputs.describe_pixels import PIXELS_METAVAR, parse_pixels
from edge_partition.inputs.pixels import PixelsError
from edge_partition.model.quantizations import QUANTIZATIONS
from edge_partition.planning.plan_split import Objective, WireChoice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _Shape(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Parses ``NAME=N,N,..`` or ``N,N,..`` into a name and a shape. The name may be empty."""

    name = "[NAME=]N,N,.."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        # A name may have equals signs; a shape has none.
        name, _, sizes = str(value).rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            self.fail(
                f"{value!r} is not a shape; expected a shape such as 224,224,3 or token_ids=128",
                param,
                ctx,
            )
        return name, shape


def _as_mapping(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, tuple[int, ...]], ...]
) -> dict[str, tuple[int, ...]]:
    shapes = dict(value)
    if len(shapes) < len(value):
        names = [name for name, _ in value]
        twice = next(name for name in names if names.count(name) > 1)
        what = f"the input {twice!r}" if twice else "all inputs (no name)"
        raise click.BadParameter(f"two shapes for {what}; expected one for each input", ctx, param)
    return shapes


def input_shape_words(input_shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Return one option ``--input-shape`` for each shape, as words of a command line."""
    words = []
    for name, shape in input_shapes.items():
        sizes = ",".join(map(str, shape))
        words += ["--input-shape", f"{name}={sizes}" if name else sizes]
    return words


def _check_pixels(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse a wrong ``--pixels`` value before the model is loaded."""
    if value is not None:
        try:
            parse_pixels(value)
        except PixelsError as error:
            raise click.BadParameter(str(error), ctx, param) from None
    return value


def picture_options(options: dict[str, Any]) -> PictureOptions:
    """Remove from ``options`` the options about pictures and classes, and return them."""
    names = ("pixels", "resize", "fit", "labels", "logits")
    return PictureOptions(**{name: options.pop(name) for name in names if name in options})


def picture_words(picture: PictureOptions) -> list[str]:
    """Return the options about pictures and classes as words of a command line."""
    words = []
    for name in ("pixels", "resize", "fit", "labels"):
        value = getattr(picture, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return [*words, "--logits"] if picture.logits else words


def plan_limits(options: dict[str, Any]) -> dict[str, Any]:
    """Remove from ``options`` the options that limit a plan, and return them by name."""
    names = ("wire", "max_replicas", "max_latency_ms", "min_throughput_per_s")
    return {name: options.pop(name) for name in names}


model_options = combined(
    click.argument("model"),
    click.option(
        "--weights",
        metavar="FILE|seeded",
        help="A file with the weights, or 'seeded' for made-up weights, which are equal on every "
        "machine. With made-up weights, the model's answers mean nothing.",
    ),
    click.option(
        "--input-shape",
        "input_shapes",
        type=_Shape(),
        multiple=True,
        callback=_as_mapping,
        help="The shape, without the batch, for inputs whose shape the model leaves open: "
        "224,224,3 for all such inputs, or token_ids=128 for the input token_ids only. Repeatable.",
    ),
    click.option(
        "--signature",
        metavar="NAME",
        help="The signature to use, for a .tflite file or SavedModel with several signatures.",
    ),
    click.option(
        "--quantize",
        "quantization",
        type=click.Choice(QUANTIZATIONS),
        default="none",
        show_default=True,
        help="How numbers are stored. none: all as float32; float16: weights as float16; dynamic: "
        "weights as int8; int8: weights and activations as int8.",
    ),
    click.option(
        "--calibration",
        type=click.Path(path_type=Path),
        metavar="FILE|DIR",
        help="Sample inputs for --quantize int8: a picture, .npy, .npz, .wav or .csv file, or a "
        "folder of such files.",
    ),
    click.option(
        "--pixels",
        metavar=PIXELS_METAVAR,
        callback=_check_pixels,
        help="The pixel values that the model expects: a range, ImageNet's mean and deviation (for "
        "imagenet-bgr only the mean), or MEAN/STD for (value - MEAN) / STD. Default: read from the "
        "model, else 0..255.",
    ),
    click.option(
        "--resize",
        type=click.Choice(RESIZE_FILTERS),
        help="The filter that resizes pictures. Default: the filter that the authors of the Keras "
        "application use; for other models, bilinear.",
    ),
    click.option(
        "--fit",
        type=click.Choice(PIXEL_FITS),
        help="What to do if the proportions of a picture and of the model's input differ. stretch: "
        "stretch the picture; crop: cut out the middle; letterbox: add gray bars. Default: "
        "stretch.",
    ),
    click.option(
        "--labels",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="A file with the names of the classes, one per line. Default: the names in the model, "
        "or in a labels file in the model's folder (cats.labels.txt for cats.tflite).",
    ),
    click.option(
        "--logits",
        is_flag=True,
        help="Say that the model's scores are logits: `run` then shows probabilities, computed by "
        "a softmax.",
    ),
)

plan_options = combined(
    click.option(
        "--fleet",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A fleet.toml file, which describes the boards.",
    ),
    click.option(
        "--objective",
        type=click.Choice(get_args(Objective)),
        default="throughput",
        show_default=True,
        help="What the plan optimizes. throughput: the most requests per second; latency: the "
        "least time for one request; energy: the fewest joules for one request, without the "
        "energy that the boards use when idle.",
    ),
    click.option(
        "--stages",
        type=click.IntRange(1),
        metavar="N",
        help="Split into exactly N stages, with one board for each stage.",
    ),
    click.option(
        "--cut",
        "cuts",
        metavar="LAYER",
        multiple=True,
        help="Cut after the layer of this name; repeatable.",
    ),
    click.option(
        "--wire",
        type=click.Choice(get_args(WireChoice)),
        default="float32",
        show_default=True,
        help="How float activations travel between boards. float32: exactly; float16: rounded, "
        "with half the bytes; auto: as float16 between two stages if this makes the plan better.",
    ),
    click.option(
        "--max-replicas",
        type=click.IntRange(1),
        metavar="N",
        help="The largest number of boards for one stage; 1: no replicas. Default: any number.",
    ),
    click.option(
        "--max-latency-ms",
        type=click.FloatRange(0, min_open=True),
        metavar="MS",
        help="The highest latency that a plan may have for a single request, in milliseconds. Not "
        "allowed with --objective energy.",
    ),
    click.option(
        "--min-throughput",
        "min_throughput_per_s",
        type=click.FloatRange(0, min_open=True),
        metavar="N",
        help="The lowest throughput that a plan may have, in requests per second.",
    ),
)
