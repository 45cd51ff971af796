"""Steps that several commands share: load a model, choose a plan, show the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edge_partition import api
from edge_partition.commands import _plan_text, _show
from edge_partition.commands._options import picture_options
from edge_partition.facts.read_labels import read_labels_file
from edge_partition.model.model_kinds import model_kind
from edge_partition.planning.fleet import Fleet, equal_fleet, load_fleet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edge_partition.model.load_model import LoadedTflite
    from edge_partition.planning.plan_split import Objective, Plan


def load(
    model: str,
    *,
    weights: str | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    quantization: str = "none",
    calibration: Path | None = None,
    **options: Any,
) -> LoadedTflite:
    """Load the model that a command's argument MODEL and options name; show the progress."""
    if quantization == "int8" and calibration is None and model_kind(model).needs_conversion:
        raise click.UsageError(
            "--quantize int8 needs sample inputs to find the quantization scales; add "
            "--calibration IMAGES"
        )
    picture = picture_options(options)
    if picture.labels is not None:
        # A conversion may take a minute, so read the file of labels before the conversion.
        read_labels_file(picture.labels)
    with _show.step_progress() as step:
        return api.load_model(
            model,
            weights=weights,
            input_shapes=input_shapes,
            quantization=quantization,
            calibration=calibration,
            picture=picture,
            on_step=step,
            on_note=_show.warn,
            **options,
        )


def choose_boards(fleet: Path | None, stages: int | None, cuts: tuple[str, ...]) -> Fleet:
    """Return the boards of the file ``fleet``, or equal boards if there is no file.

    The number of equal boards is the number of stages. The function raises an error for wrong
    options. Call the function before the model is loaded, because loading is slow.
    """
    if cuts and stages is not None and stages != len(cuts) + 1:
        raise click.UsageError(
            f"{len(cuts)} cuts make {len(cuts) + 1} stages, not {stages}; leave --stages out"
        )
    if fleet is None and stages is None and not cuts:
        raise click.UsageError(
            "the boards are missing; expected --fleet fleet.toml, --stages N for N equal boards, "
            "or --cut LAYER"
        )
    if fleet is not None:
        return load_fleet(fleet)
    return equal_fleet(len(cuts) + 1 if cuts else stages or 1)


def make_plan(
    model: LoadedTflite,
    boards: Fleet,
    *,
    objective: Objective,
    stages: int | None,
    cuts: tuple[str, ...] = (),
    use_profiles: bool = False,
    **limits: Any,
) -> Plan:
    """Choose the best plan, and show progress.

    With ``use_profiles``, the plan uses measured times for each board that has a profile of the
    model. Leave ``use_profiles`` false for equal boards: their names are made up, and a real board
    may have such a name. ``limits`` are as for :func:`edge_partition.api.plan_model`.
    """
    with _show.step_progress() as step:
        step("Planning")
        return api.plan_model(
            model,
            boards,
            objective=objective,
            stages=stages,
            cuts=cuts,
            use_profiles=use_profiles,
            on_unusable=lambda error: _show.warn(str(error)),
            on_limit=_show.warn,
            **limits,
        )


def measured(model: LoadedTflite, boards: Fleet) -> Fleet:
    """Return the boards. Each board that has a profile of the model gets its measured times."""
    return api.use_measured_times(
        model, boards, on_unusable=lambda error: _show.warn(str(error)), on_limit=_show.warn
    )


def show_plan(
    plan: Plan, sizes: Sequence[int] | None = None, *, with_prediction: bool = True
) -> None:
    """Print a plan: throughput and latency, the slowest part, the stages, the times' sources.

    Args:
        plan: The plan.
        sizes: The size of each stage's written file in bytes; None: the plan's estimate is shown.
        with_prediction: Whether to print the predicted throughput and latency, for the plan and for
            the best board alone. ``demo`` prints the prediction later, beside the measurement.
    """
    if with_prediction:
        _show.say(_plan_text.plan_verdict(plan), bold=True)
        for line in _plan_text.plan_reasons(plan):
            _show.say(line)
    else:
        _show.say(_plan_text.plan_head(plan), bold=True)
    _show.show_table("", _plan_text.plan_columns(plan), _plan_text.plan_rows(plan, sizes))
    for line in _plan_text.plan_sources(plan):
        _show.say(line)
