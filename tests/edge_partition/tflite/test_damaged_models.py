"""``inspect`` on damaged copies of a real model: a graph or an ``EdgePartitionError``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from metadata_models import image, labelled, metadata, with_metadata
from tflite_models import FlatModel
from two_signatures import add_signature, start_subgraph

from edge_core.errors import EdgePartitionError
from edge_partition.commands.inspect import command as inspect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COPIES = 120


def structure(data: bytes) -> list[int]:
    """Return the positions of all bytes outside the weights, whose damage leaves a valid model."""
    model = schema.Model.GetRootAs(data)
    is_weight = np.zeros(len(data), bool)
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if size := buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            is_weight[start : start + size] = True
    return [int(place) for place in np.flatnonzero(~is_weight)]


@pytest.mark.slow
def test_damaged_and_cut_copies_of_a_real_model_are_read_or_refused(
    small_mobilenet: Callable[[str], bytes], tmp_path: Path
) -> None:
    data = small_mobilenet("int8")
    places = structure(data)
    rng = random.Random(3)  # noqa: S311 - the same damage in every run
    file = tmp_path / "damaged.tflite"
    read = refused = 0
    for number in range(COPIES):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 8, 32))):
            damaged[rng.choice(places)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if number % 4 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        file.write_bytes(damaged)
        error = CliRunner().invoke(inspect, [str(file), "--json"]).exception
        if error is None:
            read += 1
        elif isinstance(error, EdgePartitionError):
            refused += 1
            assert "\n" not in str(error)
        else:
            raise AssertionError(f"copy {number}") from error
    # Damage of both kinds was tried.
    assert read > COPIES / 10
    assert refused > COPIES / 3


def test_damage_to_signatures_metadata_and_packed_files_is_read_or_refused(tmp_path: Path) -> None:
    raw = metadata([image([0], [255])], [labelled("p", ("labels.txt", 2, ""))], name="sound")
    flat = FlatModel()
    x = flat.tensor("x")
    one = flat.add(x, flat.constant("one", np.ones(4, np.float32)), "m/a/add")
    two = flat.add(one, one, "m/b/add")
    add_signature(flat, "a", {"x": x}, {"y": two}, 0)
    start_subgraph(flat, [x], [two])
    x = flat.tensor("x")
    y = flat.add(x, x, "m/c/add")
    add_signature(flat, "b", {"x": x}, {"y": y}, 1)
    data = with_metadata(flat, [x], [y], raw, {"labels.txt": "a\nb\n"})
    rng = random.Random(4)  # noqa: S311 - the same damage in every run
    file = tmp_path / "damaged.tflite"
    read = refused = 0
    for number in range(COPIES):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            place = rng.randrange(8, len(damaged))
            damaged[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        file.write_bytes(damaged)
        words = [str(file), "--json", *(["--signature", "b"] if number % 2 else [])]
        error = CliRunner().invoke(inspect, words).exception
        if error is None:
            read += 1
        elif isinstance(error, EdgePartitionError):
            refused += 1
            assert "\n" not in str(error)
        else:
            raise AssertionError(f"copy {number}") from error
    assert read > COPIES / 5
    assert refused > COPIES / 5
