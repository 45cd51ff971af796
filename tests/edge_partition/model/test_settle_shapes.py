"""Given shapes fix the open inputs, or the error lists the inputs."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from edge_partition.commands._options import input_shape_words, model_options
from edge_partition.model.settle_shapes import settle_shapes
from edge_partition.model.source_errors import InputShapeError

OPEN_TEXT = {"token_ids": (None,), "padding_mask": (None,)}


def test_one_length_goes_to_every_open_input() -> None:
    assert settle_shapes("m", OPEN_TEXT, {"": (16,)}) == {"token_ids": (16,), "padding_mask": (16,)}


def test_a_shape_by_name_has_priority_over_a_shape_for_all_inputs() -> None:
    given = {"padding_mask": (8,), "": (16,)}
    assert settle_shapes("m", OPEN_TEXT, given) == {"token_ids": (16,), "padding_mask": (8,)}


@pytest.mark.parametrize(
    ("inputs", "given", "settled"),
    [
        # A single number fills every open dimension, for any rank.
        ({"image": (None, None, 3)}, {"": (32,)}, {"image": (32, 32, 3)}),
        ({"sound": (None, 80), "ids": (None,)}, {"": (12,)}, {"sound": (12, 80), "ids": (12,)}),
        ({"grid": (None, None)}, {"grid": (5,)}, {"grid": (5, 5)}),
        # A shape for all inputs skips fixed inputs and inputs that it does not fit.
        ({"a": (None,), "b": (7,)}, {"": (3,)}, {"a": (3,), "b": (7,)}),
        ({"a": (None, 4), "b": (9, 9)}, {"": (3, 4)}, {"a": (3, 4), "b": (9, 9)}),
        # The shape of an only input can be changed.
        ({"image": (224, 224, 3)}, {"": (64, 64, 3)}, {"image": (64, 64, 3)}),
        ({"Länge (cm)": (None,), "b=c": (None,)}, {"Länge (cm)": (3,), "b=c": (4,)},
         {"Länge (cm)": (3,), "b=c": (4,)}),
        ({"scalar": ()}, {}, {"scalar": ()}),
    ],
)  # fmt: skip
def test_shapes_settle(
    inputs: dict[str, tuple[int | None, ...]],
    given: dict[str, tuple[int, ...]],
    settled: dict[str, tuple[int, ...]],
) -> None:
    assert settle_shapes("m", inputs, given) == settled


@pytest.mark.parametrize(
    ("inputs", "given", "message"),
    [
        (OPEN_TEXT, {}, r"'token_ids' \(\?\), 'padding_mask' \(\?\).*--input-shape 128 for all"),
        (
            OPEN_TEXT,
            {"token_ids": (4,)},
            r"'padding_mask' \(\?\).*--input-shape 'padding_mask=128'",
        ),
        (OPEN_TEXT, {"tokens": (4,)}, r"no input 'tokens'.*'token_ids' \(\?\), 'padding_mask'"),
        ({"a": (3,), "b": (4,)}, {"": (5,)}, r"no open input that --input-shape 5 fits"),
        ({"a": (None, 4), "b": (None, 5)}, {"": (3, 6)}, r"no open input that --input-shape 3,6"),
        (
            {"image": (None, None, 3)},
            {},
            r"'image' has an open dimension \(shape \?,\?,3.*224,224,3",
        ),
        ({"image": (None, None, 3)}, {"": (8, 8)}, r"--input-shape 8,8 has 2 dimensions"),
    ],
)
def test_the_error_for_open_shapes_names_the_inputs(
    inputs: dict[str, tuple[int | None, ...]], given: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(InputShapeError, match=message):
        settle_shapes("m", inputs, given)


@click.command()
@model_options
def show(**options: object) -> None:
    click.echo(repr(options["input_shapes"]))


@pytest.mark.parametrize(
    ("words", "shapes"),
    [
        ([], {}),
        (["--input-shape", "224x224x3"], {"": (224, 224, 3)}),
        (
            ["--input-shape", "Länge (cm)=4", "--input-shape", "a=b=2,3"],
            {"Länge (cm)": (4,), "a=b": (2, 3)},
        ),
    ],
)
def test_the_option_takes_names_and_repeats(
    words: list[str], shapes: dict[str, tuple[int, ...]]
) -> None:
    result = CliRunner().invoke(show, ["model.keras", *words])
    assert result.output == f"{shapes!r}\n"
    again = CliRunner().invoke(show, ["model.keras", *input_shape_words(shapes)])
    assert again.output == result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input-shape", "token_ids"], "expected a shape such as 224,224,3 or token_ids=128"),
        (["--input-shape", "a=0"], "is not a shape"),
        (["--input-shape", "a=3", "--input-shape", "a=4"], "two shapes for the input 'a'"),
        (["--input-shape", "3", "--input-shape", "4"], "two shapes for all inputs (no name)"),
    ],
)
def test_the_option_refuses_text_that_is_not_a_shape(words: list[str], message: str) -> None:
    result = CliRunner().invoke(show, ["model.keras", *words])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
