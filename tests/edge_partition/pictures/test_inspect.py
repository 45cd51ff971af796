from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tflite_models import FlatModel

from edge_partition.commands import inspect, split
from edge_partition.facts.read_labels import LabelsError
from edge_partition.model.load_model import LoadedTflite
from edge_partition.model.wrap_operations import WrappedOperation
from edge_partition.pictures.describe_model import describe_model, expression
from edge_partition.pictures.inspect_page import inspect_page
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTILE = "</script><script>alert(1)</script>[bold]{{script}}\x1b[31m"


def loaded(model: FlatModel, inputs: list[int], outputs: list[int]) -> LoadedTflite:
    tflite = read_tflite(model.to_bytes(inputs, outputs), name="m")
    return LoadedTflite(tflite=tflite, name="m", quantization="none", weights="trained")


def residual(name: str = "net") -> LoadedTflite:
    """x -> add -> + 3 -> added to x; two tensors cross every cut except the last."""
    model = FlatModel()
    x = model.tensor("x", (1, 4))
    three = model.constant("three", np.full((1, 4), 3, np.float32))
    first = model.tensor(f"{name}/first/Add", (1, 4))
    model.operator("ADD", [x, three], [first])
    second = model.tensor(f"{name}/first__add_1/Add", (1, 4))
    model.operator("ADD", [first, three], [second])
    last = model.tensor(f"{name}/last/Add", (1, 4))
    model.operator("ADD", [x, second], [last])
    wrapped = WrappedOperation("first__add_1", "keras.src.ops.numpy.Add", ("x2=3.0",))
    return replace(loaded(model, [x], [last]), wrapped=(wrapped,))


@pytest.fixture(scope="module")
def mobilenet(small_mobilenet: Callable[[str], bytes]) -> LoadedTflite:
    tflite = read_tflite(small_mobilenet("none"), name="net")
    return LoadedTflite(tflite=tflite, name="net", quantization="none", weights="seeded")


def test_document_has_the_live_tensors_at_every_position(mobilenet: LoadedTflite) -> None:
    graph = mobilenet.tflite.graph
    document = describe_model(mobilenet)
    count = len(graph.operators)
    assert [at["position"] for at in document["positions"]] == list(range(count + 1))
    assert any(len(at["tensors"]) > 1 for at in document["positions"])
    for at in document["positions"]:
        position = at["position"]
        assert at["live_bytes"] == graph.boundary_bytes(position)
        assert at["tensors"] == [tensor.index for tensor in graph.boundary(position)]
        assert at["cut_allowed"] == (position in graph.cuts)


def test_split_takes_every_cut_name(mobilenet: LoadedTflite) -> None:
    graph = mobilenet.tflite.graph
    cuts = [at for at in describe_model(mobilenet)["positions"] if at["cut_allowed"]]
    assert len(cuts) > 50
    for at in cuts:
        assert graph.position_after(at["cut_name"]) == at["position"]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["a", "b", "a/b", "b/a", "m/a/b", "add", "m/add"]), max_size=9))
def test_cut_names_are_right_where_layers_repeat_and_share_names(names: list[str]) -> None:
    model = FlatModel()
    x = model.tensor("x", (1, 4))
    for number, name in enumerate(["first", *names]):
        made = model.tensor(f"m/{name}/op_{number}", (1, 4))
        model.operator("RELU", [x if number == 0 else made - 1], [made])
    given_model = loaded(model, [x], [made])
    graph = given_model.tflite.graph
    for at in describe_model(given_model)["positions"]:
        if at["cut_allowed"]:
            assert graph.position_after(at["cut_name"]) == at["position"]


def test_totals_count_shared_constants_once_and_operators_each_their_own() -> None:
    document = describe_model(residual())
    assert document["parameters"] == 4
    assert document["weight_bytes"] == 16
    assert [operator["parameters"] for operator in document["operators"]] == [4, 4, 0]
    assert [operator["weight_bytes"] for operator in document["operators"]] == [16, 16, 0]
    assert [operator["output_bytes"] for operator in document["operators"]] == [16, 16, 16]


def test_every_tensor_referred_to_by_index_is_described() -> None:
    document = describe_model(residual())
    known = {tensor["index"] for tensor in document["tensors"]}
    for operator in document["operators"]:
        assert known >= {*operator["inputs"], *operator["outputs"], *operator["constants"]}
    assert all(known >= set(at["tensors"]) for at in document["positions"])


def test_operators_that_no_cut_can_separate_are_shown_with_the_reason(tmp_path: Path) -> None:
    model = FlatModel()
    x = model.tensor("x", (1, 4))
    state = model.tensor("state", (1, 4), variable=True)
    first, last = model.tensor("m/a/Add", (1, 4)), model.tensor("m/b/Add", (1, 4))
    model.operator("ADD", [x, state], [first])
    model.operator("ADD", [first, state], [last])
    document = describe_model(loaded(model, [x], [last]))
    assert [at["cut_allowed"] for at in document["positions"]] == [False] * 3
    (kept,) = document["kept_together"]
    assert (kept["start"], kept["stop"]) == (0, 2)
    assert "state" in kept["reason"]

    source = tmp_path / "m.tflite"
    source.write_bytes(model.to_bytes([x], [last]))
    result = CliRunner().invoke(inspect.command, [str(source)], catch_exceptions=False)
    assert kept["reason"] in result.stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_a_custom_operator_that_split_refuses_gives_a_warning(
    tmp_path: Path, *, as_json: bool
) -> None:
    model = FlatModel()
    x = model.tensor("x")
    made = model.tensor("made")
    model.operator("CUSTOM", [x], [made])
    model.model.operatorCodes[-1].customCode = "MyOwnOperator"
    file = tmp_path / "mine.tflite"
    file.write_bytes(model.to_bytes([x], [model.add(made, x, "last")]))
    words = [str(file), "--json"] if as_json else [str(file)]
    result = CliRunner().invoke(inspect.command, words, catch_exceptions=False)
    assert result.exit_code == 0
    if as_json:
        (warning,) = json.loads(result.stdout)["warnings"]
    else:
        (warning,) = [line for line in result.stdout.splitlines() if "Warning" in line]
    assert "`edge-partition split` refuses this model." in warning
    assert "custom operator MyOwnOperator" in warning
    assert "\n" not in warning


def picture_model(tmp_path: Path) -> Path:
    model = FlatModel()
    image, scores = model.tensor("image", (1, 8, 8, 3)), model.tensor("scores", (1, 192))
    model.operator("RESHAPE", [image], [scores], reshape_to((1, 192)))
    last = model.tensor("last", (1, 192))
    model.operator("SOFTMAX", [scores], [last], softmax())
    path = tmp_path / "m.tflite"
    path.write_bytes(model.to_bytes([image], [last]))
    return path


def reshape_to(shape: tuple[int, ...]) -> schema.ReshapeOptionsT:
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    return options


def softmax() -> schema.SoftmaxOptionsT:
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return options


def run(*words: str) -> str:
    """Return the output of ``inspect``."""
    result = CliRunner().invoke(inspect.command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_meaning_of_inputs_and_outputs_is_shown(tmp_path: Path) -> None:
    file = str(picture_model(tmp_path))
    (tmp_path / "m.labels.txt").write_text("".join(f"class {number}\n" for number in range(192)))
    text = run(file)
    assert "Input image float32[1, 8, 8, 3]: pictures as 0..255 RGB (a guess)" in text
    assert "Output last float32[1, 192]: probabilities." in text
    assert "Answers: 192 classes: class 0, class 1, class 2 and 189 more." in text
    assert "The model does not state its pixel format" in text
    asked = run(file, "--pixels", "-1..1,bgr", "--resize", "area", "--fit", "letterbox")
    assert "-1..1 BGR (from --pixels), resized (area) and padded with gray bars" in asked
    assert "a guess" not in asked


def test_the_meaning_of_inputs_and_outputs_is_in_the_document(tmp_path: Path) -> None:
    document = json.loads(run(str(picture_model(tmp_path)), "--json", "--pixels", "imagenet-bgr"))
    (image,), (last,) = document["inputs"], document["outputs"]
    assert image["pixels"]["order"] == "bgr"
    assert image["pixels"]["mean"] == [103.939, 116.779, 123.68]
    assert image["pixels"]["words"] == "BGR minus ImageNet's mean (from --pixels)"
    assert (last["scores"], document["labels"], document["notes"]) == ("probabilities", 0, [])


def test_a_bundle_shows_the_options_of_its_split(tmp_path: Path) -> None:
    file, build = str(picture_model(tmp_path)), str(tmp_path / "build")
    result = CliRunner().invoke(
        split.command, [file, "--stages", "2", "-o", build, "--pixels", "0..1"]
    )
    assert result.exit_code == 0, result.output
    assert "pictures as 0..1 RGB (from --pixels)" in " ".join(result.output.split())
    assert "pictures as 0..1 RGB (from --pixels)" in run(build)
    assert "pictures as -1..1 RGB" in run(build, "--pixels", "-1..1")


def test_the_page_splits_with_the_same_options(tmp_path: Path) -> None:
    page = tmp_path / "m.html"
    file = str(picture_model(tmp_path))
    run(file, "--html", str(page), "--pixels", "-1..1", "--fit", "crop", "--logits")
    assert embedded(page.read_text())["split_command"] == [
        *("edge-partition", "split", file, "--pixels", "-1..1", "--fit", "crop", "--logits")
    ]


@pytest.mark.parametrize("pixels", ["0..x", "-1..1,hsv", "127.5"])
def test_invalid_pixels_are_wrong_usage_before_the_model_is_loaded(pixels: str) -> None:
    result = CliRunner().invoke(inspect.command, ["NoSuchModel", "--pixels", pixels])
    assert result.exit_code == 2
    assert "127.5/127.5,bgr" in result.output


def test_a_missing_labels_file_is_an_error_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="No such file"):
        CliRunner().invoke(
            inspect.command,
            ["NoSuchModel", "--labels", str(tmp_path / "labels.txt")],
            catch_exceptions=False,
        )


def test_a_model_of_builtin_operators_has_no_warnings(mobilenet: LoadedTflite) -> None:
    assert describe_model(mobilenet)["warnings"] == []


def test_int8_without_samples_is_wrong_usage_before_the_model_is_loaded() -> None:
    result = CliRunner().invoke(inspect.command, ["NoSuchModel", "--quantize", "int8"])
    assert result.exit_code == 2
    assert "--calibration" in result.output


def test_wrapped_operation_is_found_in_its_operator() -> None:
    (operation,) = describe_model(residual())["wrapped_operations"]
    assert operation["expression"] == "x + 3"
    assert operation["operators"] == [1]


@pytest.mark.parametrize(
    ("operation", "constants", "written"),
    [
        ("Add", ("x2=3.0",), "x + 3"),
        ("Multiply", ("x2=0.16666666666666666",), "x × 1/6"),  # noqa: RUF001
        ("Subtract", ("x1=3.0",), "3 − x"),  # noqa: RUF001
        ("Divide", ("x2=0.1",), "x ÷ 0.1"),
        ("Multiply", ("x2=float32[3]",), "x × float32[3]"),  # noqa: RUF001
        ("Add", ("x2=1e+300",), "x + 1e+300"),
        ("Add", ("x2=nan",), "x + nan"),
        ("Clip", ("x_min=0", "x_max=6"), "Clip(x_min=0, x_max=6)"),
        ("GetItem", ("key=(Ellipsis, slice(1, None))",), "GetItem(key=(Ellipsis, slice(1, None)))"),
        ("Add", (), "Add()"),
    ],
)
def test_expressions_are_in_usual_notation(
    operation: str, constants: tuple[str, ...], written: str
) -> None:
    assert expression(WrappedOperation("l", f"keras.src.ops.numpy.{operation}", constants)) == (
        written
    )


def test_page_has_the_whole_document_and_the_command() -> None:
    document = describe_model(residual())
    page = inspect_page(document, ["edge-partition", "split", "m o d"])
    assert embedded(page) == {**document, "split_command": ["edge-partition", "split", "m o d"]}


def test_names_cannot_become_markup_in_the_page() -> None:
    clean = inspect_page(describe_model(residual()), [])
    hostile = replace(residual(HOSTILE), name=HOSTILE)
    page = inspect_page(describe_model(hostile), [HOSTILE])
    assert embedded(page)["name"] == HOSTILE
    assert page.count("<script") == clean.count("<script") == 2
    assert page.count("</script") == clean.count("</script") == 2
    assert "<title>&lt;/script&gt;" in page


def test_page_refers_to_nothing_outside_itself() -> None:
    page = inspect_page(describe_model(residual()), [])
    own = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[\w-]+\.|\bsrc=|<link|@import|url\(|\bfetch\(|import\(", own)
    assert "default-src 'none'" in page


def test_page_without_its_data_stays_small() -> None:
    page = inspect_page(describe_model(residual()), [])
    assert len(page) - len(json.dumps(embedded(page))) < 60_000


@pytest.mark.parametrize("width", [80, 100, 140])
def test_table_fits_the_terminal(mobilenet: LoadedTflite, width: int) -> None:
    lines = rendered(describe_model(mobilenet), width)
    operators = len(mobilenet.tflite.graph.operators)
    # A title, a header, a rule, and one line for each operator: no line is wrapped.
    assert operators <= len([line for line in lines if line.strip()]) <= operators + 3
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "1x48x48x16" in text
    assert ("parameters" in text) == (width >= 120)


def test_names_are_shown_unchanged_and_control_characters_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(residual(), name="[bold]\x1b[31m")
    source = tmp_path / "m.tflite"
    source.write_bytes(model.tflite.data)
    monkeypatch.setattr(inspect._planning, "load", lambda *_words, **_options: model)
    text = CliRunner().invoke(inspect.command, [str(source)], catch_exceptions=False).stdout
    assert "[bold]" in text
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_output_to_a_file_has_full_names(tmp_path: Path) -> None:
    name = "a_layer_with_a_name_" * 9
    source = tmp_path / "m.tflite"
    source.write_bytes(residual(f"net/{name}").tflite.data)
    result = CliRunner().invoke(inspect.command, [str(source)], catch_exceptions=False)
    assert f"{name}/first" in result.stdout
    assert "2 possible cuts, 2 of them crossed by more than one tensor" in result.stdout


def test_command_writes_page_and_json_together(tmp_path: Path) -> None:
    source, page = tmp_path / "m.tflite", tmp_path / "m.html"
    source.write_bytes(residual().tflite.data)
    result = CliRunner().invoke(
        inspect.command, [str(source), "--json", "--html", str(page)], catch_exceptions=False
    )
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["cuts"] == 2
    shown = embedded(page.read_text())
    assert shown.pop("split_command") == ["edge-partition", "split", str(source)]
    assert shown == document


def embedded(page: str) -> dict[str, object]:
    match = re.search(r'<script type="application/json" id="model">(.*?)</script>', page, re.DOTALL)
    assert match
    document: dict[str, object] = json.loads(match[1])
    return document


def rendered(document: dict[str, object], width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(inspect._operator_table(document, width))
    return [line.rstrip() for line in stream.getvalue().splitlines()]
