"""``edge-partition inspect``: a model's operators, its cuts and its wrapped constants."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.text import Text

from edge_core.plain_text import plain_text
from edge_core.program.click_program import json_option
from edge_core.write_file import write_file
from edge_partition.bundles.bundle import read_bundle
from edge_partition.commands import _planning, _show
from edge_partition.commands._options import (
    input_shape_words,
    model_options,
    picture_options,
    picture_words,
)
from edge_partition.facts.describe_ends import describe_classes, describe_input, describe_output
from edge_partition.facts.model_facts import (
    PictureOptions,
    facts_of_manifest,
    input_specs,
    output_specs,
)
from edge_partition.model.load_model import AS_GIVEN, LoadedTflite
from edge_partition.model.saved_model import is_saved_model
from edge_partition.pictures.describe_model import describe_model
from edge_partition.pictures.inspect_page import inspect_page
from edge_partition.tflite.kept_together import KeptTogether
from edge_partition.tflite.probe_model import CannotRunError, probe_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: From this many columns on, weights and parameters have room.
_WIDE = 120
_UNLIMITED = 500
_NARROW_KIND, _NARROW_OUTPUT, _LEAST_LAYER = 12, 14, 14


@click.command("inspect")
@model_options
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write one HTML page instead: the graph to zoom and search, cuts to compare.",
)
@json_option
def command(model: str, page: Path | None, as_json: bool, **options: Any) -> None:
    """Show MODEL's operators, what crosses each cut, and its wrapped constants.

    A bundle's folder shows the whole model in it.

    \b
    edge-partition inspect MobileNetV3Large
    edge-partition inspect model.tflite --html model.html
    """  # noqa: D301 -- click's mark for a paragraph that keeps its lines
    model, loaded = _load(model, options)
    document = describe_model(loaded, _warnings(loaded))
    if page is not None:
        content = inspect_page(document, _split_command(model, **options))
        write_file(page, content.encode())
    if as_json:
        _show.print_json(document)
        return
    _print(document, loaded, is_page=page is not None)
    if page is not None:
        click.echo(
            f"Wrote {shlex.quote(str(page))} ({_show.kib(page.stat().st_size)} KiB): open it "
            "in a browser, no network needed."
        )


def _load(model: str, options: dict[str, Any]) -> tuple[str, LoadedTflite]:
    """Return the model, and the name of the file that it is read from."""
    if not Path(model).is_dir() or is_saved_model(model):
        return model, _planning.load(model, **options)
    bundle = read_bundle(Path(model))
    file = str(bundle.whole_file)
    loaded = _planning.load(file, **options)
    if picture_options(dict(options)) == PictureOptions():
        # The file alone does not tell what the split was told.
        loaded = replace(loaded, facts=facts_of_manifest(bundle.manifest))
    return file, loaded


def _print(document: dict[str, Any], loaded: LoadedTflite, *, is_page: bool) -> None:
    console = _show.console()
    if not console.is_terminal:
        # A file or a pipe has room for whole names.
        console.width = _UNLIMITED
    if not is_page:
        console.print(_operator_table(document, console.width))
        if document["wrapped_operations"]:
            console.print(_wrapped_table(document, console.width))
    console.print(
        f"{document['macs'] / 1e6:.1f} million multiply-accumulates, "
        f"{document['parameters']:,} parameters in {_show.mib(document['weight_bytes'])} MiB, "
        f"{document['cuts']} possible cuts, "
        f"{document['cuts_with_several_tensors']} of them crossed by more than one tensor."
    )
    for line in _end_lines(loaded):
        console.print(Text(plain_text(line)))
    for kept in document["kept_together"]:
        console.print(Text(plain_text(str(KeptTogether(**kept)))))
    if document["state"]:
        console.print(Text(plain_text(document["state"])))
    for note in document["notes"]:
        console.print(Text(plain_text(note)))
    for warning in document["warnings"]:
        console.print(Text(plain_text(f"Warning: {warning}")))


def _end_lines(loaded: LoadedTflite) -> Iterator[str]:
    graph, facts = loaded.tflite.graph, loaded.facts
    for spec in input_specs(graph, facts):
        yield f"Input {describe_input(spec)}."
    for spec in output_specs(graph, facts):
        yield f"Output {describe_output(spec)}."
    classes = describe_classes(facts.labels, facts.detections)
    if classes:
        yield f"Answers: {classes}."


def _warnings(loaded: LoadedTflite) -> list[str]:
    if loaded.quantization != AS_GIVEN or not loaded.tflite.custom_operators:
        return []
    try:
        probe_model(loaded.name, loaded.tflite.data)
    except CannotRunError as error:
        return [f"`edge-partition split` refuses this model. {error}"]
    return []


def _operator_table(document: dict[str, Any], width: int) -> Any:
    wide = width >= _WIDE
    columns = [">#", "operator", "layer", "output", ">MMAC"]
    columns += [">parameters", ">weights KiB"] if wide else []
    columns += [">tensors", ">live KiB after"] if wide else [">n", ">live KiB"]
    rows = []
    for operator in document["operators"]:
        output = " ".join("x".join(map(str, shape)) for shape in operator["output_shapes"])
        kind = operator["kind"]
        rows.append(
            [
                str(operator["index"]),
                kind if wide else _shorten(kind, _NARROW_KIND),
                operator["layer"],
                output if wide else _shorten(output, _NARROW_OUTPUT),
                f"{operator['macs'] / 1e6:.2f}",
                *([f"{operator['parameters']:,}"] if wide else []),
                *([_show.kib(operator["weight_bytes"])] if wide else []),
                str(operator["cut_tensors"]) if operator["cut_allowed"] else "-",
                _show.kib(operator["cut_bytes"]),
            ]
        )
    note = "" if wide else ", n tensors live after each"
    title = f"{document['name']}: {len(rows)} operators{note}"
    taken = sum(
        max(len(cell) for cell in (name.lstrip(">"), *(row[at] for row in rows))) + 2
        for at, name in enumerate(columns)
        if name != "layer"
    )
    room = max(width - taken, _LEAST_LAYER)
    for row in rows:
        row[2] = _shorten(row[2], room)
    return _table(title, columns, rows)


def _wrapped_table(document: dict[str, Any], width: int) -> Any:
    operations = document["wrapped_operations"]
    rows = [
        [
            " ".join(map(str, operation["operators"])) or "-",
            operation["layer"],
            operation["expression"],
        ]
        for operation in operations
    ]
    columns = [">operator", "layer", "computes"]
    if width >= _WIDE:
        columns.append("constants")
        for row, operation in zip(rows, operations, strict=True):
            row.append(", ".join(operation["constants"]))
    return _table(f"{len(rows)} operations that are no Keras layers, wrapped", columns, rows)


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Any:
    table = _show.table("", *columns)
    table.title = Text(plain_text(title))
    table.box = box.SIMPLE_HEAD
    table.show_edge = table.pad_edge = False
    table.padding = (0, 1, 0, 0)
    for row in rows:
        # Text, not str: a name may hold what rich takes for markup.
        table.add_row(*(Text(plain_text(cell)) for cell in row))
    return table


def _shorten(text: str, length: int) -> str:
    """Leave out the middle: layers' names differ at their ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) * 2 // 3
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def _split_command(
    model: str,
    *,
    weights: str | None,
    input_shapes: Mapping[str, tuple[int, ...]],
    quantization: str,
    calibration: Path | None,
    signature: str | None = None,
    **options: Any,
) -> list[str]:
    words = ["edge-partition", "split", model]
    if weights is not None:
        words += ["--weights", weights]
    words += input_shape_words(input_shapes)
    if signature is not None:
        words += ["--signature", signature]
    if quantization != "none":
        words += ["--quantize", quantization]
    if calibration is not None:
        words += ["--calibration", str(calibration)]
    return words + picture_words(picture_options(options))
