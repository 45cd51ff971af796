"""``edge-partition run``: inputs through a live deployment, and the answers to them."""

from __future__ import annotations

import collections
import io
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge_core.errors import EdgePartitionError
from edge_core.plain_text import plain_text
from edge_core.program.click_program import broker_address, broker_options, json_option
from edge_core.write_file import write_file
from edge_partition.answers.answers import describe_answer
from edge_partition.answers.boxes import MIN_SCORE
from edge_partition.answers.draw_boxes import draw_file
from edge_partition.client.pipeline import Pipeline
from edge_partition.client.result import Result
from edge_partition.client.stream_report import StreamTimes
from edge_partition.commands import _show
from edge_partition.inputs.describe_pixels import describe_pixels
from edge_partition.inputs.load_inputs import IMAGE_SUFFIXES, InputFileError, expand_inputs
from edge_partition.inputs.named_requests import named_requests
from edge_partition.inputs.picture_size import file_picture_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge_core.contract.manifest import Manifest
    from edge_partition.answers.answers import Answer
    from edge_partition.client.stream_report import StreamReport
    from edge_partition.inputs.named_requests import NamedRequest, SampleName


class DrawError(EdgePartitionError):
    """The option ``--draw`` can't be met."""


class UnansweredError(EdgePartitionError):
    """Some inputs had no answer; a message for each of them was printed before.

    Attributes:
        failed: The number of inputs without an answer.
        total: The number of all inputs.
    """

    def __init__(self, failed: int, total: int) -> None:
        self.failed = failed
        self.total = total
        super().__init__(f"{failed:,} of {total:,} inputs had no answer.")


@dataclass(frozen=True)
class _Failed:
    name: str
    error: EdgePartitionError


@dataclass(frozen=True)
class _Answered:
    sample: SampleName
    answer: Answer
    latency_ms: float
    outputs: dict[str, np.ndarray]


@click.command("run")
@click.argument("deployment")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@broker_options
@click.option(
    "--window",
    type=click.IntRange(1),
    metavar="N",
    help="The most requests in flight at once. Default: enough to keep every stage busy; 1 for a "
    "model with kept state.",
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
    help="The number of best labels to show.",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    metavar="SCORE",
    default=MIN_SCORE,
    show_default=True,
    help="Leave out boxes with a lower score.",
)
@click.option(
    "--draw",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the pictures with their boxes into this folder.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write all outputs: an .npz file.",
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
    stack several inputs: each of them has its answer. If an input has no answer, a line on standard
    error names it, the other inputs go on, and the exit status is 1.
    """
    broker = broker_address(options)
    files = expand_inputs(inputs)
    stopped: EdgePartitionError | KeyboardInterrupt | None = None
    times = StreamTimes()
    shown = _Shown(folder, as_json=as_json, keeps_outputs=output is not None)
    with Pipeline(deployment, broker, window=window, timeout_s=timeout, prefix=prefix) as pipeline:
        manifest = pipeline.manifest
        if folder is not None:
            _check_drawable(folder, files, manifest)
        shown.note(*_guesses(files, manifest))
        answers = _Answers(manifest, top, min_score)
        # On a terminal the lines of answers show the progress.
        hidden = not as_json and sys.stdout.isatty()
        started = time.monotonic()
        try:
            with _show.count_progress("Running", len(files), hidden=hidden) as on_result:
                for item in _stream(pipeline, files, answers, times, on_note=shown.note):
                    shown.add(item)
                    on_result(shown.total, max(shown.total, len(files)))
        except (EdgePartitionError, KeyboardInterrupt) as error:
            # The answers so far are kept: they may have taken hours.
            stopped = error
        report = times.report(time.monotonic() - started)
    if output is not None and shown.outputs:
        names = [spec.name for spec in manifest.outputs]
        columns = {name: [outputs[name] for outputs in shown.outputs] for name in names}
        write_file(output, _npz(columns))
    end = shown.end(stopped)
    if as_json:
        _show.print_json(_document(manifest, report, shown, stopped))
    elif shown.total > shown.failed:
        _show_end(manifest, report, shown, output)
    if end is not None:
        raise end


def _stream(
    pipeline: Pipeline,
    files: Sequence[Path],
    answers: _Answers,
    times: StreamTimes,
    *,
    on_note: Callable[[str], None],
) -> Iterator[_Answered | _Failed]:
    """Yield each input's answer or error as it arrives, in the order of the inputs.

    Raises:
        RequestError: No further request can succeed.
    """
    sent: collections.deque[NamedRequest | _Failed] = collections.deque()

    def fail(file: Path, error: EdgePartitionError) -> None:
        sent.append(_Failed(str(file), error))

    def inputs() -> Iterator[dict[str, np.ndarray]]:
        specs = answers.manifest.inputs
        for request in named_requests(files, specs, on_note=on_note, on_error=fail):
            sent.append(replace(request, inputs={}))
            yield request.inputs

    for result in pipeline.stream(inputs(), on_error="yield"):
        while isinstance(request := sent.popleft(), _Failed):
            yield request
        if isinstance(result, Result):
            times.add(result)
            yield from answers.of(request, result)
        else:
            for sample in request.samples:
                yield _Failed(sample.name, result)
    for left in sent:
        if isinstance(left, _Failed):
            yield left


@dataclass(frozen=True)
class _Answers:
    """Makes answers of results.

    Attributes:
        manifest: The deployment's manifest.
        top: The number of labels in an answer.
        min_score: The lowest score of a box in an answer.
    """

    manifest: Manifest
    top: int
    min_score: float

    def of(self, request: NamedRequest, result: Result) -> Iterator[_Answered]:
        """Yield the answer to each sample of a request."""
        manifest = self.manifest
        for sample, outputs in request.split(result.outputs, manifest.inputs):
            size = file_picture_size(sample.file) if manifest.model.detections else None
            answer = describe_answer(
                manifest, outputs, top=self.top, picture_size=size, min_score=self.min_score
            )
            yield _Answered(sample, answer, result.latency_ms, outputs)


class _Shown:
    """The answers so far: printed on arrival, kept only for ``-o`` and ``--json``.

    Attributes:
        total: The number of inputs so far.
        failed: The number of inputs without an answer.
        outputs: The outputs of each answered input, for ``-o``; else empty.
        rows: The rows of the ``--json`` document; else empty.
        notes: Sentences to print at the end, in the order of the keys.
        drawn: The number of pictures written.
    """

    def __init__(self, folder: Path | None, *, as_json: bool, keeps_outputs: bool) -> None:
        """Start without answers.

        Args:
            folder: The folder for pictures with boxes; None: none are drawn.
            as_json: Whether rows are kept and nothing is printed before the end.
            keeps_outputs: Whether ``outputs`` are kept.
        """
        self.total = self.failed = self.drawn = 0
        self.outputs: list[dict[str, np.ndarray]] = []
        self.rows: list[dict[str, Any]] = []
        self.notes: dict[str, None] = {}
        self.folder = folder
        self._names_taken: set[str] = set()
        self._as_json = as_json
        self._keeps_outputs = keeps_outputs
        self._first: _Failed | None = None

    def note(self, *notes: str) -> None:
        """Keep sentences for the end, each once."""
        self.notes.update(dict.fromkeys(notes))

    def add(self, item: _Answered | _Failed) -> None:
        """Show one input's answer or error."""
        self.total += 1
        if self.total > 1:
            self._tell_first()
        if isinstance(item, _Failed):
            self._fail(item)
            return
        self.note(*item.answer.notes)
        if self._keeps_outputs:
            self.outputs.append(item.outputs)
        if not self._as_json:
            click.echo(f"{plain_text(item.sample.name)}: {item.answer}")
        path = None if self.folder is None else self._draw(self.folder, item)
        if self._as_json:
            row = {"input": item.sample.name, "latency_ms": round(item.latency_ms, 3)}
            drawn = {} if path is None else {"drawn": str(path)}
            self.rows.append({**row, **item.answer.to_json(), **drawn})

    def end(
        self, stopped: EdgePartitionError | KeyboardInterrupt | None
    ) -> EdgePartitionError | KeyboardInterrupt | None:
        """Return the error to end with; None: all inputs were answered.

        The error is what stopped the stream, else the number of inputs without an answer. For a
        single input it is that input's own error.
        """
        if stopped is not None:
            self._tell_first()
            return stopped
        if self._first is not None:
            return self._first.error
        return UnansweredError(self.failed, self.total) if self.failed else None

    def _fail(self, item: _Failed) -> None:
        self.failed += 1
        if self._as_json:
            self.rows.append({"input": item.name, "error": str(item.error)})
        if self.total == 1:
            # If no other input follows, the command ends with this error.
            self._first = item
        else:
            _warn(item)

    def _tell_first(self) -> None:
        if self._first is not None:
            _warn(self._first)
            self._first = None

    def _draw(self, folder: Path, row: _Answered) -> Path | None:
        """Write a picture with its boxes and return the file."""
        if row.answer.boxes is None or row.sample.file.suffix.lower() not in IMAGE_SUFFIXES:
            return None
        path = folder / _free_name(row.sample.file, self._names_taken)
        write_file(path, draw_file(row.sample.file, row.answer.boxes, path.suffix))
        self.drawn += 1
        return path


def _warn(item: _Failed) -> None:
    # The error of a file names the file; an error from a board doesn't.
    name = "" if isinstance(item.error, InputFileError) else f"{item.name}: "
    _show.warn(plain_text(f"{name}{item.error}"))


def _show_end(manifest: Manifest, report: StreamReport, shown: _Shown, output: Path | None) -> None:
    """Print the notes and the report after the last answer."""
    if manifest.model.weights == "seeded":
        shown.note(_show.SEEDED)
    if shown.folder is not None:
        shown.note(f"{shown.drawn} pictures with boxes are in {shown.folder}.")
    if output is not None and shown.failed:
        shown.note(f"{output} has a row for each answered input, and none for the others.")
    for note in shown.notes:
        click.echo(plain_text(note))
    _show.show_report(report)


def _guesses(files: Sequence[Path], manifest: Manifest) -> Iterator[str]:
    """Yield a sentence for each input whose pixel values are a guess."""
    if not any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        return
    for spec in manifest.inputs:
        if spec.pixels is not None and spec.pixels.said_by == "guess":
            yield (
                f"Pictures go in as {describe_pixels(spec.pixels)}; if the answers are wrong, "
                "split again with the pixel values of the training: `split --pixels`."
            )


def _check_drawable(folder: Path, files: Sequence[Path], manifest: Manifest) -> None:
    """Refuse a wrong ``--draw`` before the stream starts.

    Raises:
        DrawError: The model finds no boxes, the folder holds the inputs, or can't be made.
    """
    if not manifest.model.detections:
        raise DrawError(
            f"--draw: the outputs of deployment {manifest.deployment!r} are not known as boxes "
            "(SSD's four outputs, or a YOLO head with its metadata); leave --draw out."
        )
    if folder.resolve() in {file.resolve().parent for file in files}:
        raise DrawError(
            f"--draw {folder}: the inputs are in this folder and would be overwritten; name "
            "another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DrawError(f"--draw {folder}: the folder can't be made: {error.strerror}.") from None


def _free_name(file: Path, taken: set[str]) -> str:
    """Return the file's name, with a number where another picture has the name already."""
    suffix = file.suffix if file.suffix.lower() in {".jpg", ".jpeg", ".png"} else ".png"
    name, number = f"{file.stem}{suffix}", 1
    while name.casefold() in taken:
        number += 1
        name = f"{file.stem}-{number}{suffix}"
    taken.add(name.casefold())
    return name


def _document(
    manifest: Manifest,
    report: StreamReport,
    shown: _Shown,
    stopped: EdgePartitionError | KeyboardInterrupt | None,
) -> dict[str, Any]:
    return {
        "deployment": manifest.deployment,
        "generation": manifest.generation,
        "weights": manifest.model.weights,
        **report.document(),
        "failed": shown.failed,
        "stopped": None if stopped is None else str(stopped) or "interrupted",
        "notes": list(shown.notes),
        "results": shown.rows,
    }


def _npz(columns: dict[str, list[np.ndarray]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.stack(rows) for name, rows in columns.items()})  # type: ignore[arg-type]
    return buffer.getvalue()
