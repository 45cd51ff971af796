"""Read the signatures of a ``.tflite`` file, and choose one of them as the model.

A signature is a function with a name, named arguments and named results. A signature runs one
subgraph of the file. The runtime's method ``get_signature_runner(name)`` gives access to it.
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

#: The name that TensorFlow gives to a signature if the author chooses none.
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
    """A signature of a ``.tflite`` file.

    Attributes:
        name: The signature's name.
        inputs: Names of the signature's arguments.
        outputs: Names of the signature's results.
        subgraph: Number of the subgraph that the signature runs. Several signatures may run the
            same subgraph.
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
    """The model that a chosen signature runs.

    Attributes:
        data: A ``.tflite`` file in which the signature's subgraph is the main subgraph.
        subgraph: Number of the signature's subgraph in the original file.
        notes: Sentences for the user about the choice.
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
        room = len(data) // 4  # number of list entries that fit; each takes four bytes
        found = []
        for index in range(model.SignatureDefsLength()):
            table = model.SignatureDefs(index)
            room -= 1 + table.InputsLength() + table.OutputsLength()
            if room < 0:
                raise InvalidModelError(
                    f"{model_name} is damaged: it lists more signatures than the file can hold. "
                    "Copy or convert the model again."
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
    """Return a model in which one signature's subgraph is the main subgraph.

    If the signature already runs the main subgraph of ``data``, the result contains ``data``
    itself.

    If ``signature`` is None and all signatures run the same subgraph, the result contains ``data``
    itself too. If the signatures run different subgraphs, the default is the first of these
    signatures that the file has:

    1. the signature ``serving_default``
    2. the first signature that runs the main subgraph
    3. the first signature in the file

    The result's notes then name the default.

    Args:
        data: A ``.tflite`` file.
        signature: The signature's name; None for the default.
        model_name: The model's name, for errors and notes.

    Raises:
        SignatureError: The file has no such signature.
        InvalidModelError: The file is damaged.
        FileTooLargeError: The signature's model would be over 2 GB.
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
            f"Signature {plain_text(chosen.name)} is used; the model has the signatures {listed}. "
            "Choose another one with --signature NAME."
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
