"""The answers of ``run``: errors of inputs, the end, and names of drawn pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_core.errors import EdgePartitionError
from edge_partition.commands._run_answers import Failed
from edge_partition.commands._run_drawing import free_name
from edge_partition.commands._run_output import AnswerLog, UnansweredError

ERROR = EdgePartitionError("The board is too hot.")


def log(*, as_json: bool = False) -> AnswerLog:
    return AnswerLog(None, as_json=as_json, keeps_outputs=False)


def test_the_error_of_a_single_input_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    answers = log()
    answers.add(Failed("a.png", ERROR))
    assert answers.end(None) is ERROR
    assert capsys.readouterr().err == ""


def test_several_inputs_without_an_answer_are_named_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = log()
    for name in ("a.png", "b.png"):
        answers.add(Failed(name, ERROR))
    end = answers.end(None)
    assert isinstance(end, UnansweredError)
    assert (end.failed, end.total) == (2, 2)
    assert capsys.readouterr().err.splitlines() == [
        "edge-partition: a.png: The board is too hot.",
        "edge-partition: b.png: The board is too hot.",
    ]


def test_the_error_that_stopped_the_stream_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    answers = log()
    answers.add(Failed("a.png", ERROR))
    stopped = KeyboardInterrupt()
    assert answers.end(stopped) is stopped
    assert "a.png" in capsys.readouterr().err


def test_without_inputs_there_is_no_error() -> None:
    assert log().end(None) is None


def test_json_has_a_row_for_an_input_without_an_answer() -> None:
    answers = log(as_json=True)
    answers.add(Failed("a.png", ERROR))
    assert answers.rows == [{"input": "a.png", "error": str(ERROR)}]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["x/a.png", "y/a.png", "z/A.PNG"], ["a.png", "a-2.png", "A-3.PNG"]),
        (["a.bmp", "a.gif"], ["a.png", "a-2.png"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
    ],
)
def test_drawn_pictures_have_names_of_their_own(files: list[str], names: list[str]) -> None:
    taken: set[str] = set()
    assert [free_name(Path(file), taken) for file in files] == names
