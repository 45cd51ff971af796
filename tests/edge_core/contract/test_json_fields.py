"""Each check of a field returns the value, or names path, value found and value expected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from edge_core.contract.json_fields import Field, FieldError, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKS: list[tuple[Callable[[Field], Any], list[Any], list[Any], str]] = [
    (Field.text, ["", "a"], [1, None, ["a"], True], "a string"),
    (
        Field.name,
        ["a", "pi-1", "a" * 128],
        ["", ".a", "a/b", "a b", "a" * 129, 1],
        "a letter or digit",
    ),
    (Field.sha256, ["0" * 64], ["0" * 63, "G" * 64, 0], "64 lower-case hexadecimal digits"),
    (Field.truth, [True, False], [0, 1, "true", None], "true or false"),
    (Field.whole, [0, 10**30], [-1, True, 1.0, "1", None], "a whole number, 0 or more"),
    (lambda field: field.whole(1, 4), [1, 4], [0, 5], "a whole number from 1 to 4"),
    (Field.number, [0, 0.5, 3], [-1, True, "1", math.nan, math.inf, 10**400], "a number, 0 or"),
    (lambda field: field.number(above=True), [1e-9], [0, -1], "a number above 0"),
    (lambda field: field.number(0, 2, above=True), [2], [0, 3], "a number above 0 and at most 2"),
    (lambda field: field.number(-math.inf), [-5, 5], [math.nan, -math.inf], "a number"),
    (lambda field: field.one_of(("", "ssd", "yolo")), ["", "ssd"], ["rcnn"], "one of ssd, yolo"),
]


@pytest.mark.parametrize(("check", "right", "wrong", "expected"), CHECKS)
def test_a_check_returns_right_values_and_names_what_it_expected_of_others(
    check: Callable[[Field], Any], right: list[Any], wrong: list[Any], expected: str
) -> None:
    for value in right:
        assert check(Field({"key": value})["key"]) == value
    for value in wrong:
        with pytest.raises(FieldError) as error:
            check(Field({"key": value})["key"])
        assert error.value.where == "key"
        assert f"expected {expected}" in error.value.problem


def test_an_error_names_the_path_from_the_root() -> None:
    document = Field({"stages": [{"file": "a"}, {"file": 7}]}, root="manifest")

    with pytest.raises(FieldError, match=r"^stages\[1\]\.file is 7; expected a string\.$"):
        [stage["file"].text() for stage in document["stages"].items()]


def test_a_missing_field_and_a_wrong_container_name_the_object() -> None:
    with pytest.raises(FieldError, match=r"^model is missing\.$"):
        Field({}, root="manifest")["model"]
    with pytest.raises(FieldError, match=r"^a\.b is missing\.$"):
        Field({"a": {}})["a"]["b"]
    with pytest.raises(FieldError, match=r"^manifest is a list; expected an object\.$"):
        Field([], root="manifest")["model"]
    with pytest.raises(FieldError, match=r"^a is a string; expected a list\.$"):
        list(Field({"a": "abc"})["a"].items())
    with pytest.raises(FieldError, match=r"^a is missing; expected a list\.$"):
        list(Field({}).get("a").items())


def test_an_optional_field_may_be_missing_or_null() -> None:
    fields = Field({"there": 1, "null": None})

    assert fields.optional("gone") is None
    assert fields.optional("null") is None
    there = fields.optional("there")
    assert there is not None
    assert there.whole() == 1
    assert fields.get("gone", 5).whole() == 5
    assert "null" in fields
    assert "gone" not in fields


def test_an_unknown_field_or_choice_names_the_closest_known_one() -> None:
    with pytest.raises(FieldError, match=r"^ram_mb is an unknown field; did you mean ram_mib\?"):
        Field({"ram_mb": 1}).refuse_unknown(("name", "ram_mib"))
    with pytest.raises(FieldError, match=r"is 'yol'; did you mean yolo\?"):
        Field({"kind": "yol"})["kind"].one_of(("ssd", "yolo"))
    Field({"name": 1}).refuse_unknown(("name", "ram_mib"))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", b"\xff"])
def test_text_that_is_not_json_is_refused_by_the_documents_name(text: str | bytes) -> None:
    with pytest.raises(FieldError, match=r"^plan is not JSON: ") as error:
        parse_json(text, "plan")
    assert len(str(error.value)) < 200


def test_a_wrong_value_is_shown_in_one_short_line() -> None:
    for value in ("x" * 10_000, [[[[[1] * 99] * 99] * 99]], {"a": "b\n" * 99}):
        with pytest.raises(FieldError) as error:
            Field({"key": value})["key"].whole()
        assert len(str(error.value)) < 300
        assert "\n" not in str(error.value)
