"""The end of programs: exit statuses, one line for an error, missing extras."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_core.errors import EdgePartitionError
from edge_core.program.exit_status import ExitStatus
from edge_core.program.missing_extra import find_extra
from edge_core.program.run_program import run_program
from edge_core.program.strict_parser import StrictParser

MISSING = (
    "{}: the package {} is not installed; install the extra {}: pip install 'edge-partition[{}]'"
)


class UsageError(EdgePartitionError):
    pass


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (EdgePartitionError("no\n  board"), 1, "tool: no board"),
        (ValueError("x"), 1,
         "tool: internal error: ValueError: x (run again with --debug, and report the traceback)"),
        (UsageError("what"), 2, "tool: what"),
        (KeyboardInterrupt(), 130, "tool: interrupted"),
        (ModuleNotFoundError(name="aiohttp"), 1,
         MISSING.format("tool", "aiohttp", "monitor", "monitor")),
    ],
)  # fmt: skip
def test_an_exception_is_one_line_and_an_exit_status(
    raised: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_words: list[str]) -> None:
        raise raised

    assert run_program("tool", run, [], usage_errors=(UsageError,)) == status
    assert capsys.readouterr().err.splitlines() == [line]


def test_debug_shows_the_traceback_at_any_position() -> None:
    def run(words: list[str]) -> None:
        assert words == ["a", "b"]
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        run_program("tool", run, ["a", "--debug", "b"])


def test_the_returned_number_is_the_exit_status() -> None:
    assert run_program("tool", lambda _words: 7, []) == 7
    assert run_program("tool", lambda _words: None, []) == 0


def test_each_exit_status_has_a_description() -> None:
    assert len({status.meaning for status in ExitStatus}) == len(ExitStatus)


@pytest.mark.parametrize(
    ("module", "extra"),
    [("click", "host"), ("PIL.Image", "host"), ("textual", "monitor"), ("aiohttp.web", "monitor"),
     ("opentelemetry.sdk", "monitor-otel"), ("tf_keras", "keras2"), ("json5", None),
     ("numpy", None)],
)  # fmt: skip
def test_an_extra_is_found_by_its_modules(module: str, extra: str | None) -> None:
    assert find_extra(module) == extra


def test_options_are_not_abbreviated_and_secrets_are_not_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = StrictParser(prog="tool")
    parser.add_argument("--password-file")
    for words in (["--password", "geheim"], ["--password=geheim"], ["geheim"]):
        with pytest.raises(SystemExit) as ended:
            parser.parse_words(words)
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert "geheim" not in said
        assert said.count("\n") == 1
        assert ("did you mean --password-file?" in said) == (len(words) + words[0].count("=") > 1)
    assert vars(parser.parse_words(["--password-file", "f"])) == {"password_file": "f"}


@pytest.mark.parametrize(
    ("program", "module", "extra"),
    [("edge_partition", "click", "host"), ("edge_partition", "rich", "host"),
     ("mqtt_monitor", "click", "monitor")],
)  # fmt: skip
def test_a_program_without_its_extra_names_the_extra(program: str, module: str, extra: str) -> None:
    # The module cannot be imported, as in a bare install.
    code = (
        f"import sys; sys.modules[{module!r}] = None\nfrom {program}.__main__ import main; main()"
    )
    words = ["status"] if module == "rich" else []
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    name = program.replace("_", "-")
    assert ended.stderr == MISSING.format(name, module, extra, extra) + "\n"
