"""``edge-partition run``: stream inputs through a live deployment and show the answers."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge_core.errors import EdgePartitionError
from edge_core.program.click_program import broker_address, broker_options, json_option
from edge_core.write_file import write_file
from edge_partition.answers.boxes import MIN_SCORE
from edge_partition.client.pipeline import Pipeline
from edge_partition.client.stream_report import StreamTimes
from edge_partition.commands import _show
from edge_partition.commands._run_answers import AnswerMaker, stream_answers
from edge_partition.commands._run_drawing import check_drawable
from edge_partition.commands._run_output import AnswerLog, run_document, show_end
from edge_partition.inputs.describe_pixels import describe_pixels
from edge_partition.inputs.load_inputs import IMAGE_SUFFIXES, expand_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_core.contract.manifest import Manifest


@click.command("run")
@click.argument("deployment")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@broker_options
@click.option(
    "--window",
    type=click.IntRange(1),
    metavar="N",
    help="The largest number of requests in flight at once. Default: 1 for a model that keeps its "
    "state between requests; for other models, `run` finds the number that keeps the boards busy.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="The longest wait for an answer, in seconds.",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="The number of labels to show for each input, best label first.",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    metavar="SCORE",
    default=MIN_SCORE,
    show_default=True,
    help="Boxes with a lower score are not shown.",
)
@click.option(
    "--draw",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Draw the boxes into copies of the pictures, and write the copies into this folder.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write all outputs of the model to this .npz file.",
)
@json_option
def command(
    *,
    deployment: str,
    inputs: tuple[Path, ...],
    prefix: str,
    window: int | None,
    timeout: float,
    top: int,
    min_score: float,
    folder: Path | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Stream INPUTS through DEPLOYMENT, and show the answer to each input.

    INPUTS are pictures, .npy, .npz, .wav or .csv files, or folders of such files. An array may
    stack several inputs, each with an answer of its own. If an input gets no answer, a line on
    standard error names the input, and the exit status is 1. The other inputs are still answered.
    """
    broker = broker_address(options)
    files = expand_inputs(inputs)
    stopped: EdgePartitionError | KeyboardInterrupt | None = None
    times = StreamTimes()
    shown = AnswerLog(folder, as_json=as_json, keeps_outputs=output is not None)
    with Pipeline(deployment, broker, window=window, timeout_s=timeout, prefix=prefix) as pipeline:
        manifest = pipeline.manifest
        if folder is not None:
            check_drawable(folder, files, manifest)
        shown.note(*_guesses(files, manifest))
        answers = AnswerMaker(manifest, top, min_score)
        # On a terminal, the lines with the answers show the progress already.
        hidden = not as_json and sys.stdout.isatty()
        started = time.monotonic()
        try:
            with _show.count_progress("Running", len(files), hidden=hidden) as on_result:
                for item in stream_answers(pipeline, files, answers, times, on_note=shown.note):
                    shown.add(item)
                    on_result(shown.total, max(shown.total, len(files)))
        except (EdgePartitionError, KeyboardInterrupt) as error:
            # Keep the answers so far, which may have taken hours.
            stopped = error
        report = times.report(time.monotonic() - started)
    if output is not None and shown.outputs:
        names = [spec.name for spec in manifest.outputs]
        columns = {name: [outputs[name] for outputs in shown.outputs] for name in names}
        write_file(output, _npz(columns))
    end = shown.end(stopped)
    if as_json:
        _show.print_json(run_document(manifest, report, shown, stopped))
    elif shown.total > shown.failed:
        show_end(manifest, report, shown, output)
    if end is not None:
        raise end


def _guesses(files: Sequence[Path], manifest: Manifest) -> Iterator[str]:
    """Yield a sentence for each model input whose range of pixel values is a guess."""
    if not any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        return
    for spec in manifest.inputs:
        if spec.pixels is not None and spec.pixels.said_by == "guess":
            yield (
                f"The model gets pictures as {describe_pixels(spec.pixels)}. If the answers are "
                "wrong, split again with the pixel values of the training: `split --pixels`."
            )


def _npz(columns: dict[str, list[np.ndarray]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.stack(rows) for name, rows in columns.items()})  # type: ignore[arg-type]
    return buffer.getvalue()
