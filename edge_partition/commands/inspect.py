"""``edge-partition inspect``: show a model's operators, possible cuts and wrapped operations.

A wrapped operation has no Keras layer, so it was wrapped into a layer of its own.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
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
from edge_partition.model.model_kinds import model_kind
from edge_partition.pictures.describe_model import describe_model
from edge_partition.pictures.inspect_page import inspect_page
from edge_partition.tflite.kept_together import KeptTogether
from edge_partition.tflite.probe_model import CannotRunError, probe_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console
    from rich.table import Table

#: Least width in characters of a table with columns for weights and parameters.
_WIDE = 120
#: Width of a table in characters if standard output is no terminal.
_UNLIMITED = 500
#: Space between columns, in characters.
_GAP = 2
#: Characters in a narrow terminal: most for an operator's kind, most for its output's shape, and
#: least for a layer's name.
_NARROW_KIND, _NARROW_OUTPUT, _LEAST_LAYER = 12, 14, 14


@click.command("inspect")
@model_options
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write an HTML page instead of printing tables. The page shows the model as a graph, "
    "which you can zoom and search. The page also compares cuts.",
)
@json_option
def command(model: str, page: Path | None, as_json: bool, **options: Any) -> None:
    """Show MODEL's operators, the tensors that cross each cut, and the wrapped operations.

    A wrapped operation has no Keras layer, so it was wrapped into a layer of its own.

    MODEL is a name, file or folder as for `edge-partition split`. MODEL may also be a bundle's
    folder: the command then shows the whole model in the bundle.

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
            f"Wrote {shlex.quote(str(page))} ({_show.kib(page.stat().st_size)} KiB): open the page "
            "in a browser; no network is needed."
        )


def _load(model: str, options: dict[str, Any]) -> tuple[str, LoadedTflite]:
    """Return the name or file of MODEL, and the loaded model.

    For a bundle, these are the file of the whole model in the bundle, and this model.
    """
    if not Path(model).is_dir() or model_kind(model).is_folder:
        return model, _planning.load(model, **options)
    bundle = read_bundle(Path(model))
    file = str(bundle.whole_file)
    loaded = _planning.load(file, **options)
    if picture_options(dict(options)) == PictureOptions():
        # Options of `split` about pictures are in the manifest, and not in the model's file.
        loaded = replace(loaded, facts=facts_of_manifest(bundle.manifest))
    return file, loaded


def _print(document: dict[str, Any], loaded: LoadedTflite, *, is_page: bool) -> None:
    _show.say(_summary(document), bold=True)
    console = _show.console()
    if not console.is_terminal:
        # In a file or a pipe, lines may be long, so no name is shortened.
        console.width = _UNLIMITED
    if not is_page:
        _print_table("Operators", _operator_table(document, console.width), console)
        _show.say(
            "MMACs: millions of multiply-accumulate operations. Crossing: the tensors that cross a "
            "cut after the operator; - means that no cut is possible there."
        )
        if document["wrapped_operations"]:
            count = _show.count_of(len(document["wrapped_operations"]), "operation")
            title = f"{count} without a Keras layer, each wrapped into a layer of its own"
            _print_table(title, _wrapped_table(document, console.width), console)
    for line in _end_lines(loaded):
        _show.say(line)
    for kept in document["kept_together"]:
        _show.say(str(KeptTogether(**kept)))
    if document["state"]:
        _show.say(document["state"])
    for note in document["notes"]:
        _show.say(note)
    for warning in document["warnings"]:
        _show.say(f"Warning: {warning}")


def _summary(document: dict[str, Any]) -> str:
    return (
        f"{document['name']}: {_show.count_of(len(document['operators']), 'operator')}, "
        f"{document['macs'] / 1e6:.1f} million multiply-accumulates, "
        f"{document['parameters']:,} parameters in {_show.mib(document['weight_bytes'])} MiB, "
        f"{document['cuts']} possible cuts, "
        f"{document['cuts_with_several_tensors']} of them crossed by more than one tensor."
    )


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


def _operator_table(document: dict[str, Any], width: int) -> Table:
    """Return a table with a row for each operator. Long names are shortened to fit ``width``."""
    wide = width >= _WIDE
    columns = [">#", "operator", "layer", "output", ">MMACs"]
    columns += [">parameters", ">weights\nKiB"] if wide else []
    columns += [">crossing\ntensors", ">crossing\nKiB"]
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
    taken = sum(
        max(map(len, (*name.lstrip(">").split("\n"), *(row[at] for row in rows)))) + _GAP
        for at, name in enumerate(columns)
        if name != "layer"
    )
    room = max(width - taken, _LEAST_LAYER)
    for row in rows:
        row[2] = _shorten(row[2], room)
    return _table(columns, rows)


def _wrapped_table(document: dict[str, Any], width: int) -> Table:
    """Return a table with a row for each wrapped operation.

    If ``width`` is large enough, the table also has a column for the constants.
    """
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
    return _table(columns, rows)


def _table(columns: list[str], rows: list[list[str]]) -> Table:
    table = _show.table(*columns)
    for row in rows:
        # Text, not str: a name may hold markup of rich.
        table.add_row(*(Text(plain_text(cell)) for cell in row))
    return table


def _print_table(title: str, table: Table, console: Console) -> None:
    console.print()
    console.print(Text(title))
    console.print(table)
    console.print()


def _shorten(text: str, length: int) -> str:
    """Shorten a text to ``length`` characters by leaving out the middle.

    Two thirds of the kept characters are from the end, where the names of layers differ most.
    """
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
