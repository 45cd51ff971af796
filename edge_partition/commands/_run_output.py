"""The output of ``edge-partition run``: each answer is printed when it arrives.

Answers are kept in memory only for ``-o`` and ``--json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edge_core.errors import EdgePartitionError
from edge_core.plain_text import plain_text
from edge_core.write_file import write_file
from edge_partition.answers.draw_boxes import draw_file
from edge_partition.commands import _show
from edge_partition.commands._run_answers import Answered, Failed
from edge_partition.commands._run_drawing import free_name
from edge_partition.inputs.load_inputs import IMAGE_SUFFIXES, InputFileError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from edge_core.contract.manifest import Manifest
    from edge_partition.client.stream_report import StreamReport


class UnansweredError(EdgePartitionError):
    """Some inputs had no answer. A line about each such input was printed before.

    Attributes:
        failed: The number of inputs without an answer.
        total: The number of all inputs.
    """

    def __init__(self, failed: int, total: int) -> None:
        self.failed = failed
        self.total = total
        super().__init__(
            f"{failed:,} of {total:,} inputs had no answer; the lines above give the reasons."
        )


class AnswerLog:
    """The answers so far. Answers are printed when they arrive; ``-o`` or ``--json`` keeps them.

    Attributes:
        total: The number of inputs so far.
        failed: The number of inputs without an answer.
        outputs: The outputs of each answered input; empty without ``-o``.
        rows: The entries of the field ``results`` of the document; empty without ``--json``.
        notes: The sentences to print at the end, as the keys of a dict, which keeps their order.
        drawn: The number of pictures written.
    """

    def __init__(self, folder: Path | None, *, as_json: bool, keeps_outputs: bool) -> None:
        """Start without answers.

        Args:
            folder: The folder for pictures with boxes; None: no pictures are drawn.
            as_json: Whether to keep the answers in ``rows`` instead of printing them.
            keeps_outputs: Whether to keep the outputs in ``outputs``.
        """
        self.total = self.failed = self.drawn = 0
        self.outputs: list[dict[str, np.ndarray]] = []
        self.rows: list[dict[str, Any]] = []
        self.notes: dict[str, None] = {}
        self.folder = folder
        self._names_taken: set[str] = set()
        self._as_json = as_json
        self._keeps_outputs = keeps_outputs
        self._first: Failed | None = None

    def note(self, *notes: str) -> None:
        """Keep sentences to print at the end; a repeated sentence is kept once."""
        self.notes.update(dict.fromkeys(notes))

    def add(self, item: Answered | Failed) -> None:
        """Print one input's answer or error, or keep it for ``--json``."""
        self.total += 1
        if self.total > 1:
            self._tell_first()
        if isinstance(item, Failed):
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
        """Return the error that ends the command; None: all inputs were answered.

        Args:
            stopped: The error or interruption that ended the stream; None: the stream is complete.

        Returns:
            ``stopped``, if the stream ended early. If the only input has no answer: the error of
            this input. If some of several inputs have no answer: an :class:`UnansweredError`.
        """
        if stopped is not None:
            self._tell_first()
            return stopped
        if self._first is not None:
            return self._first.error
        return UnansweredError(self.failed, self.total) if self.failed else None

    def _fail(self, item: Failed) -> None:
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

    def _draw(self, folder: Path, row: Answered) -> Path | None:
        """Write a picture with the boxes drawn in, and return its path.

        Return None if the input is no picture, or if the model is not for detection.
        """
        if row.answer.boxes is None or row.sample.file.suffix.lower() not in IMAGE_SUFFIXES:
            return None
        path = folder / free_name(row.sample.file, self._names_taken)
        write_file(path, draw_file(row.sample.file, row.answer.boxes, path.suffix))
        self.drawn += 1
        return path


def _warn(item: Failed) -> None:
    # An error in a file already names the file; an error from a board doesn't.
    name = "" if isinstance(item.error, InputFileError) else f"{item.name}: "
    _show.warn(plain_text(f"{name}{item.error}"))


def show_end(
    manifest: Manifest, report: StreamReport, shown: AnswerLog, output: Path | None
) -> None:
    """Print the notes and the report after the last answer."""
    if manifest.model.weights == "seeded":
        shown.note(_show.SEEDED)
    if shown.folder is not None:
        shown.note(f"{shown.drawn} pictures with boxes are in {shown.folder}.")
    if output is not None and shown.failed:
        shown.note(f"{output} has a row for each answered input, and no row for the others.")
    for note in shown.notes:
        _show.say(note)
    show_report(report)


def show_report(
    report: StreamReport, *, predicted_per_s: float | None = None, reason: str | None = None
) -> None:
    """Print the throughput and latency of a stream, then the times of each stage.

    Args:
        report: The measured times.
        predicted_per_s: The predicted throughput, in requests per second; None: no prediction.
        reason: A sentence on why the prediction and the measurement differ; None: no sentence.
    """
    predicted = "" if predicted_per_s is None else f" (predicted: {predicted_per_s:.1f} requests/s)"
    _show.say(
        f"{report.requests} requests in {report.seconds:.2f} s: "
        f"{report.throughput_per_s:.1f} requests/s{predicted}.",
        bold=True,
    )
    if reason is not None:
        _show.say(reason)
    _show.say(
        f"Latency {report.latency_median_ms:.1f} ms (median), {report.latency_p99_ms:.1f} ms or "
        "less for 99 of 100 requests."
    )
    rows = [
        (
            str(stage.stage),
            stage.device,
            str(stage.requests),
            f"{stage.queue_ms:.2f}",
            f"{stage.invoke_ms:.2f}",
        )
        for stage in report.stages
    ]
    columns = ("stage", "board", ">requests", ">waiting ms", ">computing ms")
    _show.show_table("Median times of a request in each stage", columns, rows, once=["requests"])


def run_document(
    manifest: Manifest,
    report: StreamReport,
    shown: AnswerLog,
    stopped: EdgePartitionError | KeyboardInterrupt | None,
) -> dict[str, Any]:
    """Return the document that ``--json`` prints."""
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
