from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from chained_slices import run_chained, run_whole
from click.testing import CliRunner
from tflite_models import FlatModel, chain_of_adds
from two_signatures import add_signature, start_subgraph, two_signatures

from edge_partition.commands.inspect import command as inspect
from edge_partition.model.load_model import load_model
from edge_partition.tflite.file_tables import InvalidModelError
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.rewrite_tflite import keep_signature
from edge_partition.tflite.signatures import Signature, SignatureError, choose_signature, signatures

if TYPE_CHECKING:
    from pathlib import Path

X = np.random.default_rng(0).standard_normal(4).astype(np.float32)


def expected(data: bytes, name: str, **arguments: Any) -> np.ndarray:
    """Return the outputs of the runtime's signature runner."""
    (value,) = Interpreter(model_content=data).get_signature_runner(name)(**arguments).values()
    return np.asarray(value)


def test_signatures_are_read_in_the_files_order() -> None:
    assert signatures(two_signatures()) == (
        Signature("encode", ("x",), ("code",), 0),
        Signature("decode", ("code", "flag"), ("y",), 1),
    )
    assert signatures(chain_of_adds()) == ()


def test_parts_of_each_signature_equal_the_runtimes_signature_runner(tmp_path: Path) -> None:
    data = two_signatures()
    path = tmp_path / "two.tflite"
    path.write_bytes(data)
    encode = load_model(str(path), signature="encode").tflite
    assert encode.graph.cuts == (1,)
    encoded = expected(data, "encode", x=X)
    for run in (run_whole(encode, X.tobytes()), run_chained(encode, (1,), X.tobytes())):
        np.testing.assert_array_equal(np.frombuffer(run, np.float32), encoded)

    decode = load_model(str(path), signature="decode").tflite
    assert decode.graph.cuts == (1,)
    assert [tensor.name for tensor in decode.graph.boundary(0)] == ["flag", "decode_code"]
    answers = []
    for flag in (True, False):
        payload = np.array([flag]).tobytes() + X.tobytes()
        decoded = expected(data, "decode", code=X, flag=np.array([flag]))
        answers.append(decoded)
        for run in (run_whole(decode, payload), run_chained(decode, (1,), payload)):
            np.testing.assert_array_equal(np.frombuffer(run, np.float32), decoded)
    # The signatures, and the branches of the second one, are no mere copies of each other.
    assert len({answer.tobytes() for answer in (encoded, *answers)}) == 3


def test_a_kept_signature_leaves_nothing_else_in_the_file() -> None:
    data = two_signatures()
    kept = keep_signature(data, "decode")
    assert signatures(kept) == (Signature("decode", ("code", "flag"), ("y",), 0),)
    assert read_tflite(kept).schema.SubgraphsLength() == 3
    flag = np.array([True])
    np.testing.assert_array_equal(
        expected(kept, "decode", code=X, flag=flag), expected(data, "decode", code=X, flag=flag)
    )
    # Its weights alone: the branches' and the shared one.
    alone = keep_signature(data, "encode")
    assert read_tflite(alone).schema.BuffersLength() == 2
    assert read_tflite(kept).schema.BuffersLength() == 3


def test_the_default_signature_is_the_main_one_and_the_note_lists_all() -> None:
    data = two_signatures()
    chosen = choose_signature(data)
    assert chosen.data is data
    (note,) = chosen.notes
    assert note.startswith(
        "Signature encode is used; the model has the signatures encode (x -> code), "
        "decode (code, flag -> y)"
    )
    assert "--signature NAME" in note


def test_serving_default_is_the_default_at_any_position() -> None:
    data = two_signatures("zero", "serving_default")
    chosen = choose_signature(data)
    assert (chosen.subgraph, signatures(chosen.data)[0].name) == (1, "serving_default")
    assert chosen.notes[0].startswith(
        "Signature serving_default is used; the model has the signatures zero"
    )
    # Named, there is nothing to tell.
    assert choose_signature(data, "serving_default").notes == ()


def test_signatures_of_one_subgraph_need_no_choice() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    y = flat.add(x, x, "y")
    for name in ("serving_default", "predict"):
        add_signature(flat, name, {"x": x}, {"y": y}, 0)
    data = flat.to_bytes([x], [y])
    for name in (None, "predict", "serving_default"):
        chosen = choose_signature(data, name)
        assert chosen.data is data
        assert chosen.notes == ()


def test_an_unknown_signature_is_refused_with_the_list(tmp_path: Path) -> None:
    path = tmp_path / "two.tflite"
    path.write_bytes(two_signatures())
    with pytest.raises(
        SignatureError, match=r"two has no signature 'code'; its signatures are encode, decode"
    ):
        load_model(str(path), signature="code")
    path.write_bytes(chain_of_adds())
    with pytest.raises(SignatureError, match=r"has no signatures; remove --signature encode"):
        load_model(str(path), signature="encode")


def test_a_signature_of_a_missing_subgraph_is_damage() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    y = flat.add(x, x, "y")
    add_signature(flat, "a", {"x": x}, {"y": y}, 0)
    add_signature(flat, "b", {"x": x}, {"y": y}, 9)
    with pytest.raises(
        InvalidModelError, match=r"signature 'b' runs subgraph 9, but the file has only 1 subgraphs"
    ):
        choose_signature(flat.to_bytes([x], [y]), "b")


def test_inspect_shows_the_signatures_and_accepts_one(tmp_path: Path) -> None:
    path = tmp_path / "two.tflite"
    path.write_bytes(two_signatures())
    told = CliRunner().invoke(inspect, [str(path)], catch_exceptions=False)
    assert "decode (code, flag -> y)" in " ".join(told.stdout.split())
    assert (
        "encode/double"
        not in CliRunner()
        .invoke(inspect, [str(path), "--signature", "decode", "--json"], catch_exceptions=False)
        .stdout
    )


def test_names_of_signatures_may_be_any_text() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    add_signature(flat, "größe 1/2", {"x": x}, {"y": flat.add(x, x, "y")}, 0)
    start_subgraph(flat, [x], [1])
    x = flat.tensor("x")
    y = flat.add(x, x, "z")
    add_signature(flat, "другая", {"ввод": x}, {"y": y}, 1)
    data = flat.to_bytes([x], [y])
    assert [item.name for item in signatures(data)] == ["größe 1/2", "другая"]
    np.testing.assert_array_equal(
        expected(choose_signature(data, "другая").data, "другая", ввод=X), 2 * X
    )
