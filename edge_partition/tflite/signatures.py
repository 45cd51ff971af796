"""The signatures of a ``.tflite`` file: functions of several names, each with its own operators.

The runtime's ``get_signature_runner(name)`` runs one of them; here one is chosen and becomes the
model.
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

#: The name that TensorFlow gives a model's signature where its author gives none.
DEFAULT_SIGNATURE = "serving_default"


class SignatureError(EdgePartitionError):
    """A model has no signature of the name asked for.

    Attributes:
        signature: What was asked for.
        choices: Those that it has.
    """

    def __init__(self, model_name: str, signature: str, choices: Sequence[str]) -> None:
        self.signature = signature
        self.choices = tuple(choices)
        super().__init__(
            f"{model_name} has no signature {signature!r}; it has "
            f"{', '.join(map(plain_text, choices))}. "
            "Name one of them with --signature."
            if choices
            else f"{model_name} has no signatures; leave --signature {signature} out."
        )


@dataclass(frozen=True)
class Signature:
    """One of a file's signatures.

    Attributes:
        name: Its key.
        inputs: The names of its arguments.
        outputs: The names of its results.
        subgraph: The number of the subgraph that it runs; several may run one.
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
    """A model of one signature.

    Attributes:
        data: The ``.tflite`` file whose main subgraph is the chosen one.
        subgraph: Its number in the file that was chosen from.
        notes: What people should be told of the choice.
    """

    data: Bytes
    subgraph: int = 0
    notes: tuple[str, ...] = ()


def signatures(data: Bytes, *, model_name: str = "the model") -> tuple[Signature, ...]:
    """Return a file's signatures, in its order; none where it names none.

    Raises:
        InvalidModelError: The file is damaged.
    """
    with malformed_as_invalid(model_name):
        model = schema.Model.GetRootAs(data)
        room = len(data) // 4  # each table in a list takes four bytes of it
        found = []
        for index in range(model.SignatureDefsLength()):
            table = model.SignatureDefs(index)
            room -= 1 + table.InputsLength() + table.OutputsLength()
            if room < 0:
                raise InvalidModelError(f"{model_name} claims more signatures than it can hold.")
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
    """Return the model of one signature; ``data`` itself where that is its main subgraph.

    Args:
        data: A ``.tflite`` file.
        signature: The one to take. By default, of a file whose signatures run several subgraphs,
            ``serving_default``, else the main subgraph's, else the first; a note says so.
        model_name: For errors and notes.

    Raises:
        SignatureError: There is no such signature.
        InvalidModelError: The file is damaged.
        FileTooLargeError: The model of the signature would be over 2 GB.
    """
    if data[4:8] != FILE_IDENTIFIER:
        return ChosenSignature(data)  # for the reader to refuse
    found = {item.name: item for item in signatures(data, model_name=model_name)}
    if signature is not None and signature not in found:
        raise SignatureError(model_name, signature, list(found))
    if signature is None and len({item.subgraph for item in found.values()}) < 2:  # noqa: PLR2004
        return ChosenSignature(data)
    chosen = found[signature] if signature is not None else _default(found)
    notes: tuple[str, ...] = ()
    if signature is None:
        listed = ", ".join(map(str, found.values()))
        notes = (f"Signature {plain_text(chosen.name)} of {listed}; choose with --signature NAME.",)
    if chosen.subgraph != 0:
        data = keep_signature(data, chosen.name, model_name=model_name)
    return ChosenSignature(data, chosen.subgraph, notes)


def _default(found: dict[str, Signature]) -> Signature:
    main = (item for item in found.values() if item.subgraph == 0)
    first = next(main, next(iter(found.values())))
    return found.get(DEFAULT_SIGNATURE, first)


def _text(name: Any) -> str:
    return (name or b"").decode(errors="replace")
