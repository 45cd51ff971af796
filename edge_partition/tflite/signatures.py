"""The signatures of a ``.tflite`` file: named functions, each with its own subgraph.

The runtime's ``get_signature_runner(name)`` runs one of them. Here, one signature is chosen and
becomes the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from edge_core.errors import EdgePartitionError
from edge_core.plain_text import plain_text
from edge_partition.tflite.file_tables import (
    FILE_IDENTIFIER,
    InvalidModelError,
    malformed_as_invalid,
)
from edge_partition.tflite.rewrite_tflite import keep_signature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.tflite.file_tables import Bytes

#: TensorFlow's name for a model's signature whose author gave no name.
DEFAULT_SIGNATURE = "serving_default"


class SignatureError(EdgePartitionError):
    """A model has no signature of the requested name.

    Attributes:
        signature: The requested name.
        choices: Names of the model's signatures.
    """

    def __init__(self, model_name: str, signature: str, choices: Sequence[str]) -> None:
        self.signature = signature
        self.choices = tuple(choices)
        super().__init__(
            f"{model_name} has no signature {signature!r}; its signatures are "
            f"{', '.join(map(plain_text, choices))}. "
            "Choose one of them with --signature NAME."
            if choices
            else f"{model_name} has no signatures; remove --signature {signature}."
        )


@dataclass(frozen=True)
class Signature:
    """One of a file's signatures.

    Attributes:
        name: The signature's key.
        inputs: Names of the signature's arguments.
        outputs: Names of the signature's results.
        subgraph: Number of the subgraph that the signature runs; signatures may share a subgraph.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    subgraph: int

    def __str__(self) -> str:
        ends = f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"
        return plain_text(f"{self.name} ({ends})")


@dataclass(frozen=True)
class ChosenSignature:
    """The model of one signature.

    Attributes:
        data: The ``.tflite`` file whose main subgraph is the chosen one.
        subgraph: Number of the chosen subgraph in the original file.
        notes: Notes for the user about the choice.
    """

    data: Bytes
    subgraph: int = 0
    notes: tuple[str, ...] = ()


def signatures(data: Bytes, *, model_name: str = "the model") -> tuple[Signature, ...]:
    """Return a file's signatures, in file order; empty for a file without signatures.

    Raises:
        InvalidModelError: The file is damaged.
    """
    with malformed_as_invalid(model_name):
        model = schema.Model.GetRootAs(data)
        room = len(data) // 4  # each entry of a vector of tables takes four bytes
        found = []
        for index in range(model.SignatureDefsLength()):
            table = model.SignatureDefs(index)
            room -= 1 + table.InputsLength() + table.OutputsLength()
            if room < 0:
                raise InvalidModelError(
                    f"{model_name} claims more signatures than the file can hold."
                )
            found.append(
                Signature(
                    _text(table.SignatureKey()),
                    tuple(_text(table.Inputs(i).Name()) for i in range(table.InputsLength())),
                    tuple(_text(table.Outputs(i).Name()) for i in range(table.OutputsLength())),
                    table.SubgraphIndex(),
                )
            )
        return tuple(found)
    raise AssertionError  # pragma: no cover - the context either returns or raises


def choose_signature(
    data: Bytes, signature: str | None = None, *, model_name: str = "the model"
) -> ChosenSignature:
    """Return the model of one signature; ``data`` itself if its main subgraph is the chosen one.

    Args:
        data: A ``.tflite`` file.
        signature: Name of the signature. If None and the signatures run several subgraphs, the
            choice is ``serving_default``, else the main subgraph's signature, else the first one; a
            note names the choice.
        model_name: The model's name, for errors and notes.

    Raises:
        SignatureError: The file has no such signature.
        InvalidModelError: The file is damaged.
        FileTooLargeError: The model of the signature would be over 2 GB.
    """
    if data[4:8] != FILE_IDENTIFIER:
        return ChosenSignature(data)  # read_tflite raises the error
    found = {item.name: item for item in signatures(data, model_name=model_name)}
    if signature is not None and signature not in found:
        raise SignatureError(model_name, signature, list(found))
    if signature is None and len({item.subgraph for item in found.values()}) < 2:  # noqa: PLR2004
        return ChosenSignature(data)
    chosen = found[signature] if signature is not None else _default(found)
    notes: tuple[str, ...] = ()
    if signature is None:
        listed = ", ".join(map(str, found.values()))
        note = (
            f"Signature {plain_text(chosen.name)} is used; the model has {listed}. Choose another "
            "one with --signature NAME."
        )
        notes = (note,)
    if chosen.subgraph != 0:
        data = keep_signature(data, chosen.name, model_name=model_name)
    return ChosenSignature(data, chosen.subgraph, notes)


def _default(found: dict[str, Signature]) -> Signature:
    main = (item for item in found.values() if item.subgraph == 0)
    first = next(main, next(iter(found.values())))
    return found.get(DEFAULT_SIGNATURE, first)


def _text(name: Any) -> str:
    return (name or b"").decode(errors="replace")
