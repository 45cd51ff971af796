"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from edge_core.contract.manifest import PIXEL_FITS, RESIZE_FILTERS
from edge_core.contract.topics import DEFAULT_PREFIX
from edge_partition.client.pipeline import BROKER_VARIABLE, DEFAULT_BROKER
from edge_partition.facts.model_facts import PictureOptions
from edge_partition.inputs.pixels import PIXELS_METAVAR, PixelsError, parse_pixels
from edge_partition.model.quantizations import QUANTIZATIONS
from edge_partition.planning.plan_split import WireChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def combined(*decorators: Decorator) -> Decorator:
    """Return one decorator that applies several, the first listed first in the help."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class _Shape(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """``NAME=N,N,..`` or ``N,N,..`` -> the input's name, ``""`` for all, and its shape."""

    name = "[NAME=]N,N,.."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        # A name may hold any character, a shape no equals sign.
        name, _, sizes = str(value).rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            self.fail(
                f"{value!r} is no shape; expected such as 224,224,3 or token_ids=128", param, ctx
            )
        return name, shape


def _as_mapping(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, tuple[int, ...]], ...]
) -> dict[str, tuple[int, ...]]:
    shapes = dict(value)
    if len(shapes) < len(value):
        names = [name for name, _ in value]
        twice = next(name for name in names if names.count(name) > 1)
        what = f"for the input {twice!r}" if twice else "without a name"
        raise click.BadParameter(f"given twice {what}; give one shape an input", ctx, param)
    return shapes


def input_shape_words(input_shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the command line's words for what ``--input-shape`` was given."""
    words = []
    for name, shape in input_shapes.items():
        sizes = ",".join(map(str, shape))
        words += ["--input-shape", f"{name}={sizes}" if name else sizes]
    return words


def _check_pixels(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse what can be meant of no model, before one is loaded."""
    if value is not None:
        try:
            parse_pixels(value)
        except PixelsError as error:
            raise click.BadParameter(str(error), ctx, param) from None
    return value


def picture_options(options: dict[str, Any]) -> PictureOptions:
    """Take from a command's options what they say of pictures and classes."""
    names = ("pixels", "resize", "fit", "labels", "logits")
    return PictureOptions(**{name: options.pop(name) for name in names if name in options})


def picture_words(picture: PictureOptions) -> list[str]:
    """Return the command line's words for what was said of pictures and classes."""
    words = []
    for name in ("pixels", "resize", "fit", "labels"):
        value = getattr(picture, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return [*words, "--logits"] if picture.logits else words


json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output."
)


def plan_limits(options: dict[str, Any]) -> dict[str, Any]:
    """Take from a command's options those that :func:`plan_split` takes by the same name."""
    names = ("wire", "max_replicas", "max_latency_ms", "min_throughput_per_s")
    return {name: options.pop(name) for name in names}


model_options = combined(
    click.argument("model"),
    click.option(
        "--weights",
        metavar="FILE|seeded",
        help="A weights file, or 'seeded': deterministic weights whose labels mean nothing.",
    ),
    click.option(
        "--input-shape",
        "input_shapes",
        type=_Shape(),
        multiple=True,
        callback=_as_mapping,
        help="Fix an input's shape, without the batch: 224,224,3, or token_ids=128 by its name; "
        "repeatable. Without a name: of every input that is open.",
    ),
    click.option(
        "--signature",
        metavar="NAME",
        help="Which of a .tflite file's signatures to take, where it has several.",
    ),
    click.option(
        "--quantize",
        "quantization",
        type=click.Choice(QUANTIZATIONS),
        default="none",
        show_default=True,
        help="How weights (and with int8 activations) are stored.",
    ),
    click.option(
        "--calibration",
        type=click.Path(path_type=Path),
        help="Sample inputs for int8: a folder of images, .npy, .npz, .wav or .csv files, or one.",
    ),
    click.option(
        "--pixels",
        metavar=PIXELS_METAVAR,
        callback=_check_pixels,
        help="What a picture's values become: a range, ImageNet's mean and deviation (for BGR its "
        "mean alone), or (value - MEAN) / STD. Default: what the model itself says, else 0..255.",
    ),
    click.option(
        "--resize",
        type=click.Choice(RESIZE_FILTERS),
        help="How pictures are resized. Default: the application's own, else bilinear.",
    ),
    click.option(
        "--fit",
        type=click.Choice(PIXEL_FITS),
        help="What becomes of a picture of other proportions: stretched, its middle cut out, or "
        "whole with gray bars. Default: stretch.",
    ),
    click.option(
        "--labels",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The classes' names, one a line. Default: what the model brings, or model.labels.txt "
        "beside it.",
    ),
    click.option(
        "--logits", is_flag=True, help="The model's scores are logits: run takes a softmax."
    ),
)

plan_options = combined(
    click.option("--fleet", type=click.Path(path_type=Path), help="The boards: a fleet.toml."),
    click.option(
        "--objective",
        type=click.Choice(["throughput", "latency"]),
        default="throughput",
        show_default=True,
        help="Most requests a second, or the shortest time for one.",
    ),
    click.option("--stages", type=click.IntRange(1), help="Exactly this many boards, one a stage."),
    click.option(
        "--cut", "cuts", metavar="NAME", multiple=True, help="Cut after this layer; repeatable."
    ),
    click.option(
        "--wire",
        type=click.Choice(get_args(WireChoice)),
        default="float32",
        show_default=True,
        help="How float activations travel between boards: float16 is half the bytes, not exact; "
        "auto: where that makes the plan better.",
    ),
    click.option(
        "--max-replicas",
        type=click.IntRange(1),
        help="Most boards that serve one stage in turn; 1 for none. Default: as many as can be "
        "searched, 2 for 16 different boards, 8 for equal ones.",
    ),
    click.option(
        "--max-latency-ms", type=click.FloatRange(0, min_open=True), help="Of a lone request."
    ),
    click.option(
        "--min-throughput",
        "min_throughput_per_s",
        type=click.FloatRange(0, min_open=True),
        help="Requests a second.",
    ),
)

broker_options = combined(
    click.option(
        "--broker",
        envvar=BROKER_VARIABLE,
        default=DEFAULT_BROKER,
        show_default=True,
        help=f"mqtt[s]://HOST:PORT; or {BROKER_VARIABLE}.",
    ),
    click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, help="Topic prefix."),
)
