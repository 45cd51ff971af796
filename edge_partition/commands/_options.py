"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from broker_config.topics import DEFAULT_PREFIX
from edge_partition.load_model import QUANTIZATIONS
from edge_partition.pipeline import BROKER_VARIABLE, DEFAULT_BROKER
from edge_partition.plan_split import WireChoice

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def combined(*decorators: Decorator) -> Decorator:
    """Return one decorator that applies several, the first listed first in the help."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class _Shape(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "N,N,.."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        try:
            shape = tuple(int(size) for size in str(value).replace("x", ",").split(","))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            self.fail(f"{value!r} is no shape; expected such as 224,224,3", param, ctx)
        return shape


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
        type=_Shape(),
        help="Fix the input's open dimensions, without the batch: 224,224,3.",
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
        help="Sample inputs for int8: a folder of images, .npy or .npz files, or one such file.",
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
