"""``edge-partition run``: inputs through a live deployment, and what their answers mean."""

from __future__ import annotations

import collections
import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from broker_config.errors import EdgePartitionError
from edge_partition.answers import describe_answer
from edge_partition.boxes import MIN_SCORE
from edge_partition.commands import _show
from edge_partition.commands._options import broker_options, json_option
from edge_partition.draw_boxes import draw_file
from edge_partition.load_inputs import IMAGE_SUFFIXES, expand_inputs
from edge_partition.named_requests import named_requests
from edge_partition.picture_size import file_picture_size
from edge_partition.pipeline import Pipeline
from edge_partition.pixels import describe_pixels
from edge_partition.plain_text import plain_text
from edge_partition.stream_report import StreamReport
from edge_partition.write_file import write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from broker_config.manifest import Manifest
    from edge_partition.answers import Answer
    from edge_partition.named_requests import NamedRequest, SampleName
    from edge_partition.pipeline import Result


class DrawError(EdgePartitionError):
    """Boxes can't be drawn."""


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
    "--window", type=click.IntRange(1), help="Requests in flight at once; 1 for a kept state."
)
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds."
)
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="Labels to show.")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=MIN_SCORE,
    show_default=True,
    help="Boxes with a lower score are left out.",
)
@click.option(
    "--draw",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write the pictures with the boxes found in them.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Also write all outputs: an .npz file."
)
@json_option
def command(
    *,
    deployment: str,
    inputs: tuple[Path, ...],
    broker: str,
    prefix: str,
    window: int | None,
    timeout: float,
    top: int,
    min_score: float,
    folder: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Stream INPUTS through DEPLOYMENT, and show what it answers to each.

    INPUTS are pictures, .npy, .npz, .wav or .csv files, or folders of such. Arrays may stack
    several inputs: each has its answer.
    """
    files = expand_inputs(inputs)
    notes: dict[str, None] = {}
    with Pipeline(deployment, broker, window=window, timeout_s=timeout, prefix=prefix) as pipeline:
        manifest = pipeline.manifest
        if folder is not None:
            _check_drawable(folder, files, manifest)
        notes.update(dict.fromkeys(_guesses(files, manifest)))
        requests = named_requests(files, manifest.inputs, on_note=notes.setdefault)
        results: list[Result] = []
        answered: list[_Answered] = []
        started = time.monotonic()
        with _show.count_progress("Running", len(files)) as on_result:
            for request, result in _stream(pipeline, requests):
                # The report takes the times alone; a long stream's outputs need not stay.
                results.append(replace(result, outputs={}))
                answered += _answers(request, result, manifest, top=top, min_score=min_score)
                on_result(len(answered), max(len(answered), len(files)))
        report = StreamReport.of(results, time.monotonic() - started)
    if output is not None:
        names = [spec.name for spec in manifest.outputs]
        write_file(output, _npz({name: [row.outputs[name] for row in answered] for name in names}))
    drawn: dict[str, Path] = {} if folder is None else _draw(folder, answered)
    for row in answered:
        notes.update(dict.fromkeys(row.answer.notes))
    if as_json:
        _show.print_json(_document(manifest, report, answered, drawn, list(notes)))
        return
    console = _show.console()
    for row in answered:
        line = f"{plain_text(row.sample.name)}: {row.answer}"
        console.print(line, markup=False, soft_wrap=True)
    if manifest.model.weights == "seeded":
        notes["The weights are seeded, not trained: labels and scores mean nothing."] = None
    if folder is not None:
        notes[f"{len(drawn)} pictures with boxes are in {folder}."] = None
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    _show.show_report(report)


def _stream(
    pipeline: Pipeline, requests: Iterable[NamedRequest]
) -> Iterator[tuple[NamedRequest, Result]]:
    """Yield each request with its result, a window of them in flight."""
    sent: collections.deque[NamedRequest] = collections.deque()

    def inputs() -> Iterator[dict[str, np.ndarray]]:
        for request in requests:
            sent.append(replace(request, inputs={}))
            yield request.inputs

    for result in pipeline.stream(inputs()):
        yield sent.popleft(), result


def _answers(
    request: NamedRequest, result: Result, manifest: Manifest, *, top: int, min_score: float
) -> Iterator[_Answered]:
    for sample, outputs in request.split(result.outputs, manifest.inputs):
        size = file_picture_size(sample.file) if manifest.model.detections else None
        answer = describe_answer(manifest, outputs, top=top, picture_size=size, min_score=min_score)
        yield _Answered(sample, answer, result.latency_ms, outputs)


def _guesses(files: Sequence[Path], manifest: Manifest) -> Iterator[str]:
    """Say what nobody said of the pictures that go in."""
    if not any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        return
    for spec in manifest.inputs:
        if spec.pixels is not None and spec.pixels.said_by == "guess":
            yield (
                f"Pictures go in as {describe_pixels(spec.pixels)}; if the answers are wrong, say "
                "what the model was trained on with `edge-partition split --pixels`."
            )


def _check_drawable(folder: Path, files: Sequence[Path], manifest: Manifest) -> None:
    """Refuse what would be found out only when all has run.

    Raises:
        DrawError: The model finds no boxes, or the folder is where the inputs are.
    """
    if not manifest.model.detections:
        raise DrawError(
            f"--draw: deployment {manifest.deployment!r} finds no boxes that are known as such "
            "(SSD's four outputs, or a YOLO head that says so); leave --draw out."
        )
    if folder.resolve() in {file.resolve().parent for file in files}:
        raise DrawError(
            f"--draw {folder}: the inputs are in this folder, and would be overwritten; name "
            "another."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DrawError(f"--draw {folder}: no folder can be made: {error.strerror}.") from None


def _draw(folder: Path, answered: Sequence[_Answered]) -> dict[str, Path]:
    """Write each picture with its boxes; return where, by the sample's name."""
    drawn: dict[str, Path] = {}
    taken: set[str] = set()
    for row in answered:
        if row.answer.boxes is None or row.sample.file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        path = folder / _free_name(row.sample.file, taken)
        write_file(path, draw_file(row.sample.file, row.answer.boxes, path.suffix))
        drawn[row.sample.name] = path
    return drawn


def _free_name(file: Path, taken: set[str]) -> str:
    """Return the file's name, with a number where another picture has it already."""
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
    answered: Sequence[_Answered],
    drawn: dict[str, Path],
    notes: list[str],
) -> dict[str, Any]:
    results = []
    for row in answered:
        result = {"input": row.sample.name, "latency_ms": round(row.latency_ms, 3)}
        result |= row.answer.to_json()
        if row.sample.name in drawn:
            result["drawn"] = str(drawn[row.sample.name])
        results.append(result)
    return {
        "deployment": manifest.deployment,
        "generation": manifest.generation,
        "weights": manifest.model.weights,
        **report.document(),
        "notes": notes,
        "results": results,
    }


def _npz(columns: dict[str, list[np.ndarray]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.stack(rows) for name, rows in columns.items()})  # type: ignore[arg-type]
    return buffer.getvalue()
