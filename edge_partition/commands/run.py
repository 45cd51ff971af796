"""``edge-partition run``: inputs through a live deployment."""

from __future__ import annotations

import io
import time
from pathlib import Path

import click
import numpy as np

from edge_partition.commands import _show
from edge_partition.commands._options import broker_options, json_option
from edge_partition.load_inputs import expand_inputs, load_input
from edge_partition.pipeline import Pipeline
from edge_partition.stream_report import StreamReport, top_labels
from edge_partition.write_file import write_file


@click.command("run")
@click.argument("deployment")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@broker_options
@click.option("--window", type=click.IntRange(1), help="Requests in flight at once.")
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds."
)
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="Labels to show.")
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
    output: Path | None,
    as_json: bool,
) -> None:
    """Stream INPUTS (images, .npy, .npz or folders) through DEPLOYMENT."""
    files = expand_inputs(inputs)
    with Pipeline(deployment, broker, window=window, timeout_s=timeout, prefix=prefix) as pipeline:
        manifest = pipeline.manifest
        results = []
        started = time.monotonic()
        with _show.count_progress("Running", len(files)) as on_result:
            items = (load_input(file, manifest.inputs) for file in files)
            for result in pipeline.stream(items):
                results.append(result)
                on_result(len(results))
        report = StreamReport.of(results, time.monotonic() - started)
    if output is not None:
        write_file(
            output,
            _npz({spec.name: [r.outputs[spec.name] for r in results] for spec in manifest.outputs}),
        )
    labelled = [top_labels(result, manifest.model.labels, top) for result in results]
    if as_json:
        _show.print_json(
            {
                "deployment": deployment,
                "generation": manifest.generation,
                "weights": manifest.model.weights,
                **report.document(),
                "results": [
                    {
                        "input": str(file),
                        "latency_ms": round(result.latency_ms, 3),
                        "labels": [{"label": label, "score": score} for label, score in labels],
                    }
                    for file, result, labels in zip(files, results, labelled, strict=True)
                ],
            }
        )
        return
    console = _show.console()
    for file, labels in zip(files, labelled, strict=True):
        words = ", ".join(f"{label} {score:.3f}" for label, score in labels)
        console.print(f"{file}: {words}" if words else str(file), markup=False, soft_wrap=True)
    if manifest.model.weights == "seeded":
        console.print("The weights are seeded, not trained: labels and scores mean nothing.")
    _show.show_report(report)


def _npz(columns: dict[str, list[np.ndarray]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.stack(rows) for name, rows in columns.items()})  # type: ignore[arg-type]
    return buffer.getvalue()
