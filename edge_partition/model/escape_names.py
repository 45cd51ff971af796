"""Escape names that TensorFlow does not allow, and restore these names after the conversion.

Keras allows any text as the name of a layer or an input, and a ``.tflite`` file allows any text as
the name of a tensor. The name of a node of a ``GraphDef`` must match
``[A-Za-z0-9.][A-Za-z0-9_./-]*`` (tensorflow/core/framework/node_def_util.cc, which also accepts
``>`` between two such names).
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from edge_partition.tflite.rewrite_tflite import rewrite_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

#: An escaped character: ``.-``, the code point in hexadecimal, and ``-``. The dot comes first,
#: because a name may start with a dot but with no other punctuation mark.
_ESCAPED = re.compile(r"\.-([0-9a-f]+)-")
_TO_ESCAPE = re.compile(r"[^A-Za-z0-9_./-]|^[^A-Za-z0-9.]|\.(?=-)")


def escape_name(name: str) -> str:
    """Return ``name`` as a valid name of a ``GraphDef`` node; most names do not change."""
    return _TO_ESCAPE.sub(_escape, name)


def escape_layer_name(name: str) -> str:
    """Return a layer's name, escaped as one part of a node's path; each ``/`` is escaped too."""
    return escape_name(name).replace("/", _escape_character("/"))


def restore_names(text: str) -> str:
    """Return ``text`` with the original characters in place of all escaped characters."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def restore_tensor_names(content: bytes, model_name: str) -> bytes:
    """Return a ``.tflite`` file with restored tensor names in its main subgraph.

    Args:
        content: The bytes of the file, which are returned unchanged if no name is escaped.
        model_name: The model's name, for error messages.
    """
    main = schema.Model.GetRootAs(content).Subgraphs(0)
    names = {}
    for index in range(main.TensorsLength()):
        name = (main.Tensors(index).Name() or b"").decode(errors="replace")
        if _ESCAPED.search(name):
            names[index] = restore_names(name)
    return rewrite_tensors(content, names=names, model_name=model_name) if names else content


@contextlib.contextmanager
def escaped_layers(model: Any) -> Iterator[frozenset[str]]:
    """Within the block, give ``model`` and its layers escaped names; yield the escaped names.

    A layer opens a TensorFlow name scope with the layer's name. TensorFlow has the same rule
    for the names of scopes and the names of nodes.

    Args:
        model: A Keras 3 or Keras 2 (``tf_keras``) model.
    """
    own = {id(layer): (layer, str(layer.name)) for layer in model._flatten_layers()}  # noqa: SLF001
    own[id(model)] = (model, str(model.name))
    escaped = {key: escape_layer_name(name) for key, (_, name) in own.items()}
    changed = [(*own[key], escaped[key]) for key in own if escaped[key] != own[key][1]]
    try:
        for layer, _, name in changed:
            _set_name(layer, name)
        yield frozenset(escaped.values())
    finally:
        for layer, name, _ in changed:
            _set_name(layer, name)


def _set_name(layer: Any, name: str) -> None:
    if hasattr(layer, "_name"):  # Keras 2, in which layer.name is read-only
        layer._name = name  # noqa: SLF001
    else:
        layer.name = name


def _escape(match: re.Match[str]) -> str:
    return _escape_character(match[0])


def _escape_character(character: str) -> str:
    return f".-{ord(character):x}-"
