"""Functions and classes stay small enough to read in one go."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
MOST_FUNCTION_LINES, MOST_CLASS_LINES = 60, 250
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def count_lines(node: _Function | ast.ClassDef) -> int:
    """Return the lines of a function or a class, without docstrings."""
    docstrings = 0
    for child in ast.walk(node):
        if isinstance(child, _Function | ast.ClassDef) and ast.get_docstring(child) is not None:
            docstring = child.body[0]
            docstrings += (docstring.end_lineno or 0) - docstring.lineno + 1
    return (node.end_lineno or 0) - node.lineno + 1 - docstrings


def find_large(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _Function | ast.ClassDef):
            lines = count_lines(node)
            most = MOST_CLASS_LINES if isinstance(node, ast.ClassDef) else MOST_FUNCTION_LINES
            if lines > most:
                yield f"{node.name}: {lines} lines"


def test_functions_have_at_most_60_lines_and_classes_250() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    files = [file for file in listed if not file.startswith("tests/")]
    if not files:
        pytest.skip("not in a checkout")
    large = [f"{file} {item}" for file in files for item in find_large((ROOT / file).read_text())]
    assert large == []


def test_a_long_function_and_a_long_class_are_found() -> None:
    body = "    value = 1\n" * 60
    assert list(find_large(f"def f():\n{body}")) == ["f: 61 lines"]
    assert list(find_large(f'def f():\n    """One.\n\n    Two.\n    """\n{body[:-14]}\n')) == []
    method = f"    def f():\n{'        value = 1' + chr(10)}"
    assert list(find_large("class A:\n" + method * 125)) == ["A: 251 lines"]
    assert list(find_large("class A:\n" + method * 124)) == []
