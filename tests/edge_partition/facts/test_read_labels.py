from __future__ import annotations

from pathlib import Path

import pytest

from edge_partition.facts.read_labels import (
    LabelsError,
    find_class,
    fit_labels,
    labels_beside,
    read_labels,
    read_labels_file,
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("images/digit-7-0042.png", 7),
        ("images/digit-0-0007.png", 0),
        ("3/0042.png", 3),
        ("3/digit-7.png", 3),
        ("images/9 of 9.png", 9),
        ("images/digit-10.png", None),
        ("images/photo.jpg", None),
    ],
)
def test_a_class_is_found_in_the_folder_or_in_the_name(path: str, expected: int | None) -> None:
    assert find_class(Path(path), [str(digit) for digit in range(10)]) == expected


def test_without_labels_no_class_is_found() -> None:
    assert find_class(Path("7/digit-7.png"), []) is None


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("cat\r\ndog\r\n\r\n", ("cat", "dog")),
        ("cat\ndog\n \t\n\n", ("cat", "dog")),
        ("0 cat\n1 dog\n\n", ("cat", "dog")),
        ("\ufeffcat\ndog", ("cat", "dog")),
        ("0 tabby cat\n1 dog", ("tabby cat", "dog")),
        ("0: cat\n1: dog", ("cat", "dog")),
        ("0,cat\n1,dog", ("cat", "dog")),
        ("0\n1\n2", ("0", "1", "2")),
        ("3 wheels\n4 wheels", ("3 wheels", "4 wheels")),
        ("0 cat\n2 dog", ("0 cat", "2 dog")),
        ("???\ncat\n\ndog", ("???", "cat", "", "dog")),
    ],
)
def test_a_file_has_one_class_name_per_line(
    tmp_path: Path, text: str, labels: tuple[str, ...]
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode())
    assert read_labels_file(path) == labels


@pytest.mark.parametrize("content", [b"", b"\n \n", b"caf\xe9\n"])
def test_a_file_without_names_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    for file in (path, tmp_path / "missing.txt"):
        with pytest.raises(LabelsError) as caught:
            read_labels_file(file)
        assert str(caught.value).startswith(f"{file} can't be used: ")
        assert "\n" not in str(caught.value)


def test_the_labels_file_of_a_model_has_the_models_name(tmp_path: Path) -> None:
    assert read_labels(tmp_path / "m.keras") == ()
    (tmp_path / "m.labels.txt").write_text("a\nb\n")
    assert read_labels(tmp_path / "m.keras") == ("a", "b")
    assert read_labels(tmp_path / "m.tflite") == ("a", "b")


NAMES = tuple(f"class {number}" for number in range(1000))


def test_a_name_for_each_class_fits_any_output() -> None:
    assert fit_labels(NAMES, [(1, 1000)], "x") == (NAMES, "")
    assert fit_labels(NAMES, [(1, 4), (1, 7, 1000)], "x") == (NAMES, "")


def test_the_background_is_added_to_1000_names_and_removed_from_1001() -> None:
    labels, note = fit_labels(NAMES, [(1, 1001)], "imagenet.txt")
    assert labels == ("background", *NAMES)
    assert "imagenet.txt: 1000 names for 1001 classes" in note
    for first in ("background", "???", "Background", "unknown"):
        labels, note = fit_labels((first, *NAMES), [(1, 1000)], "x")
        assert labels == NAMES
        assert repr(first) in note
    labels, _ = fit_labels(("tench", *NAMES), [(1, 1000)], "x")
    assert labels == ()


@pytest.mark.parametrize(("count", "classes"), [(9, 10), (2, 3), (999, 1000), (5, 10), (6, 10)])
def test_too_few_names_are_not_shifted(tmp_path: Path, count: int, classes: int) -> None:
    labels, note = fit_labels(NAMES[:count], [(1, classes)], "x")
    assert labels == ()
    assert f"x: {count} names, but the model's first output has {classes} classes" in note
    with pytest.raises(LabelsError, match=f"{count} names.*{classes} classes; expected one name"):
        fit_labels(NAMES[:count], [(1, classes)], tmp_path / "l.txt", strict=True)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("???", 10),
        ("background", 10),
        ("Background", 10),
        ("unknown", 0),
        ("none", 0),
        ("", 0),
        ("ant", 0),
    ],
)
def test_one_name_too_many_is_the_background_or_unknown(first: str, expected: int) -> None:
    labels, note = fit_labels((first, *NAMES[:10]), [(1, 10)], "x")
    assert labels == NAMES[:expected]
    assert note


def test_names_of_a_detector_need_not_fit_an_axis() -> None:
    assert fit_labels(NAMES[:90], [(1, 10, 4), (1, 10)], "x", is_detector=True)[0] == NAMES[:90]
    assert fit_labels(NAMES[:80], [(1, 84, 8400)], "x")[0] == NAMES[:80]
    assert fit_labels(NAMES[:80], [(1, 25200, 85)], "x")[0] == NAMES[:80]
    assert fit_labels(NAMES[:80], [(1, 25200, 80)], "x")[0] == NAMES[:80]


def test_other_numbers_of_names_are_ignored_or_refused(tmp_path: Path) -> None:
    labels, note = fit_labels(NAMES[:7], [(1, 10)], "x")
    assert labels == ()
    assert "x: 7 names, but the model's first output has 10 classes" in note
    assert "--labels FILE" in note
    with pytest.raises(LabelsError, match="7 names"):
        fit_labels(NAMES[:7], [(1, 10)], tmp_path / "l.txt", strict=True)
    # A single name for two classes has no background.
    assert fit_labels(("spam",), [(1, 2)], "x")[0] == ()


@pytest.mark.parametrize("name", ["labels.txt", "m.txt"])
def test_a_common_file_beside_the_model_is_used_if_it_fits_exactly(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("a\nb\nc\n")
    labels, (note,) = labels_beside(tmp_path / "m.tflite", [(1, 3)])
    assert labels == ("a", "b", "c")
    assert str(tmp_path / name) in note
    assert labels_beside(tmp_path / "m.tflite", [(1, 4)]) == ((), [])
    (tmp_path / name).write_bytes(b"\xff\n\n\n")
    assert labels_beside(tmp_path / "m.tflite", [(1, 3)]) == ((), [])
