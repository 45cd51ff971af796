"""In a frozen ``GraphDef``, replace operators that TFLite lacks with operators that TFLite has.

The replacements are the formulas in :mod:`~edge_partition.model.builtin_formulas` and the rules in
:mod:`~edge_partition.model.complex_pairs`. Nodes in the bodies of loops and branches are not
replaced.

This module changes nodes, so the replacements also apply to Lambda layers, SavedModels and Keras 2
models. The module :mod:`~edge_partition.model.plain_operations` changes functions of Keras 3, and
its replacements apply only to models of Keras 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_partition.model.builtin_formulas import FORMULAS
from edge_partition.model.complex_pairs import (
    COMPLEX_ENDS,
    COMPLEX_RULES,
    Pair,
    TransformTooLargeError,
    apply_node,
)
from edge_partition.model.formula import NotReplaceableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

#: Largest constant, in bytes, that is copied into a replacement.
_SMALL_BYTES = 4096
#: The Fourier transform of real numbers, and the operators that may read its result, in a graph
#: that TFLite's own operators can compute.
_OWN_READERS = frozenset({"RFFT", "Real", "Imag", "ComplexAbs"})
#: Operators with which a graph computes shapes and scales from constants.
_FOLDED = frozenset(
    {"Add", "AddV2", "Cast", "ConcatV2", "Identity", "Mul", "Neg", "Pack", "RealDiv", "Reshape",
     "StridedSlice", "Sub"}
)  # fmt: skip
#: Largest difference at which two float32 factors count as equal.
_SAME_FACTOR = 2e-7
_COMPLEX = ("complex64", "complex128")


class ReplacingError(Exception):
    """The replacement of an operator would be too large.

    Attributes:
        node: The node's name.
        operator: TensorFlow's name of the operator.
        reason: Cause of the error, as the rest of a sentence that begins with the layer's name.
    """

    def __init__(self, node: str, operator: str, reason: str) -> None:
        self.node = node
        self.operator = operator
        self.reason = reason
        super().__init__(f"{node} {reason}")


def replace_operators(
    graph: Any, without_weights: Callable[[Any], Any], outputs: Collection[str]
) -> dict[str, str]:
    """In ``graph``, replace the operators that TFLite lacks, if a replacement exists.

    The node that computes the result of a replacement keeps the name of the replaced node, unless
    the result is complex. The names of other new nodes begin with the name of the replaced node.

    Args:
        graph: A ``GraphDef`` with fixed shapes, which is changed in place.
        without_weights: Function that returns a copy of a ``GraphDef`` without the weights.
        outputs: Names of the nodes that compute the model's outputs.

    Returns:
        The replaced operators, by the names of their nodes.

    Raises:
        ReplacingError: A replacement would be too large.
    """
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds

    if not any(_may_be_replaced(node) for node in graph.node):
        return {}
    with tf.Graph().as_default() as inferred:
        tf.graph_util.import_graph_def(without_weights(graph), name="")
    nodes = inferred.get_operations()  # each node comes after its inputs
    constants: dict[bytes, str] = {}
    replaced: dict[str, str] = {}
    added: list[Any] = []
    for group in _find_groups(nodes, set(outputs)):
        change = _Change(constants=constants)
        try:
            for node in group:
                change.replace(node)
        except NotReplaceableError:
            continue
        constants |= change.new_constants
        replaced |= {node.name: node.type for node in group}
        added += change.nodes
    if replaced:
        _replace_nodes(graph, replaced.keys(), added)
    return replaced


def _may_be_replaced(node: Any) -> bool:
    names = {name for name, _ in FORMULAS}
    return node.op in names or node.op in COMPLEX_ENDS


def _find_groups(nodes: Sequence[Any], outputs: Collection[str]) -> Iterator[list[Any]]:
    """Yield groups of nodes to replace.

    Nodes that complex tensors connect are one group. A node without complex tensors is a group of
    its own.
    """
    parts: dict[str, list[Any]] = {}
    for node in nodes:
        if not _is_complex(node):
            key = (node.type, node.inputs[0].dtype.name if len(node.inputs) else "")
            if key in FORMULAS and _has_shapes(node) and not _is_in_gelu(node):
                yield [node]
            continue
        joined = [node]
        sources = {x.op.name for x in node.inputs if x.dtype.name in _COMPLEX}
        for part in {id(parts[name]): parts[name] for name in sources}.values():
            joined = part + joined
        for member in joined:
            parts[member.name] = joined
    places = {node.name: place for place, node in enumerate(nodes)}
    for part in {id(part): part for part in parts.values()}.values():
        part.sort(key=lambda node: places[node.name])
        if all(
            node.type in COMPLEX_RULES
            and _has_shapes(node)
            and not any(x.dtype.name == "complex128" for x in (*node.inputs, *node.outputs))
            and not (node.name in outputs and node.outputs[0].dtype.name in _COMPLEX)
            for node in part
        ) and not all(_is_convertible_transform(node) for node in part):
            yield part


def _is_complex(node: Any) -> bool:
    return any(x.dtype.name in _COMPLEX for x in (*node.inputs, *node.outputs))


def _has_shapes(node: Any) -> bool:
    return all(x.shape.is_fully_defined() for x in (*node.inputs, *node.outputs))


def _is_convertible_transform(node: Any) -> bool:
    """Return whether TFLite's own operators can compute a node of a Fourier transform.

    The node is the transform or an operator that reads the transform's result. TFLite has only a
    transform of real numbers, and only for lengths that are a power of two.
    """
    import tensorflow as tf  # noqa: PLC0415

    if node.type != "RFFT":
        return node.type in _OWN_READERS
    length = tf.get_static_value(node.inputs[1])
    return length is not None and int(length[0]) > 1 and int(length[0]).bit_count() == 1


def _is_in_gelu(node: Any) -> bool:
    """Return whether the converter turns the node and its neighbours into TFLite's ``GELU``.

    The converter recognizes ``0.5 x (1 + erf(x / sqrt(2)))`` and ``0.5 x erfc(-x / sqrt(2))``, with
    the factor ``0.5 x`` on the left (TensorFlow 2.21).
    """
    if node.type not in ("Erf", "Erfc"):
        return False
    x, factor = _split_factor(node.inputs[0])
    if abs(factor - 0.5**0.5) > _SAME_FACTOR:
        return False
    share = node.outputs[0]
    if node.type == "Erfc":
        if x.op.type != "Neg":
            return False
        x = x.op.inputs[0]
    else:
        sums = [reader for reader in share.consumers() if reader.type in ("AddV2", "Add")]
        if len(sums) != 1 or not any(_scalar_value(y) == 1 for y in sums[0].inputs):
            return False
        share = sums[0].outputs[0]
    products = share.consumers()
    if len(products) != 1 or products[0].type != "Mul" or products[0].inputs[1].name != share.name:
        return False
    found, factor = _split_factor(products[0].inputs[0])
    return bool(found.name == x.name and factor == 0.5)  # noqa: PLR2004


def _split_factor(y: Any) -> tuple[Any, float]:
    """Return ``x`` and ``factor`` of the product ``y = x * factor``.

    If ``y`` is not a product with a constant, the result is ``y`` and 1.
    """
    if y.op.type in ("Mul", "RealDiv"):
        left, right = y.op.inputs
        if (number := _scalar_value(right)) is not None and number != 0:
            return left, number if y.op.type == "Mul" else 1 / number
        if y.op.type == "Mul" and (number := _scalar_value(left)) is not None:
            return right, number
    return y, 1.0


def _scalar_value(x: Any) -> float | None:
    """Return the value of a constant with one element; None for other tensors."""
    value = _constant_value(x) if x.shape.num_elements() == 1 else None
    return None if value is None else float(value.item())


def _constant_value(x: Any, depth: int = 8) -> Any:
    """Return a tensor's value; None if the tensor is large or depends on the model's input.

    Args:
        x: A tensor.
        depth: Largest number of operators between constants and ``x``.
    """
    import tensorflow as tf  # noqa: PLC0415

    node = x.op
    if node.type == "ZerosLike":
        return np.zeros(x.shape, x.dtype.as_numpy_dtype)
    # A constant that repeats one value is stored once, however large the tensor.
    is_small = node.type == "Const" and node.node_def.ByteSize() <= _SMALL_BYTES
    if not is_small and x.shape.num_elements() * x.dtype.size > _SMALL_BYTES:
        return None
    value = tf.get_static_value(x)
    if value is not None:
        return np.asarray(value)
    if node.type not in _FOLDED or depth == 0:
        return None
    values = [_constant_value(y, depth - 1) for y in node.inputs]
    if any(value is None for value in values):
        return None
    with tf.Graph().as_default() as small:
        results = apply_node(node, [tf.constant(value) for value in values])
        with tf.compat.v1.Session(graph=small) as session:
            return np.asarray(session.run(results[x.value_index]))


@dataclass
class _Change:
    """The new nodes that replace a group of nodes.

    Attributes:
        constants: Names of the large constants in earlier replacements. The key is the serialized
            value of the constant.
        new_constants: Names of the large constants in this replacement, with the same keys.
        nodes: ``NodeDef`` of each new node.
        pairs: Name and shape of the real part and of the imaginary part of each complex tensor. The
            key is the tensor's name. The imaginary part is None if it is zero.
    """

    constants: dict[bytes, str]
    new_constants: dict[bytes, str] = field(default_factory=dict)
    nodes: list[Any] = field(default_factory=list)
    pairs: dict[str, tuple[tuple[str, Any], tuple[str, Any] | None]] = field(default_factory=dict)

    def replace(self, node: Any) -> None:
        """Add the new nodes that replace ``node``.

        Raises:
            NotReplaceableError: The formula cannot compute this node.
            ReplacingError: The replacement would be too large.
        """
        import tensorflow as tf  # noqa: PLC0415

        is_complex = _is_complex(node)
        rule = (
            COMPLEX_RULES[node.type]
            if is_complex
            else FORMULAS[node.type, node.inputs[0].dtype.name]
        )
        sources: dict[str, str] = {}
        with tf.Graph().as_default() as small:
            inputs = [self._input(x, sources) for x in node.inputs]
            try:
                results = rule(node, *inputs)
            except TransformTooLargeError as error:
                raise ReplacingError(node.name, node.type, str(error)) from error
            results = results if isinstance(results, list) else [results]
            if not isinstance(results[0], Pair):
                results = [tf.identity(results[0], "result")]
        ends = [
            part.op.name
            for found in results
            for part in ((found.re, found.im) if isinstance(found, Pair) else (found,))
            if part is not None
        ]
        graph = tf.compat.v1.graph_util.extract_sub_graph(small.as_graph_def(), ends)
        names = self._add(node, graph, sources)
        for found, expected in zip(results, node.outputs, strict=True):
            if isinstance(found, Pair):
                self.pairs[expected.name] = tuple(  # type: ignore[assignment]
                    None if part is None else (names(part.name), part.shape)
                    for part in (found.re, found.im)
                )
            elif found.shape != expected.shape or found.dtype != expected.dtype:
                raise NotReplaceableError
        if not isinstance(results[0], Pair):
            self.nodes[-1].name = node.name

    def _input(self, x: Any, sources: dict[str, str]) -> Any:
        import tensorflow as tf  # noqa: PLC0415

        def placeholder(name: str, shape: Any, dtype: Any) -> Any:
            found = tf.compat.v1.placeholder(dtype, shape)
            sources[found.op.name] = name
            return found

        if x.name in self.pairs:
            parts = self.pairs[x.name]
            return Pair(
                *(None if part is None else placeholder(*part, tf.float32) for part in parts)
            )
        value = _constant_value(x)
        if value is not None:
            return tf.constant(value, x.dtype, x.shape)
        return placeholder(x.name.removesuffix(":0"), x.shape, x.dtype)

    def _add(self, node: Any, graph: Any, sources: dict[str, str]) -> Callable[[str], str]:
        """Add the nodes of ``graph``, with new names, to the new nodes.

        Args:
            node: The node that is replaced.
            graph: ``GraphDef`` that computes the replacement. A placeholder in ``graph`` stands for
                a tensor of the model's graph.
            sources: Names of tensors in the model's graph, by the names of the placeholders.

        Returns:
            A function that takes the name of a tensor in ``graph``, and returns the name of the
            same tensor in the model's graph.
        """
        called = dict(sources)
        fresh = []
        for part in graph.node:
            if part.name in sources:
                continue
            name = f"{node.name}_{part.name.replace('/', '_')}"
            content = part.attr["value"].tensor.SerializeToString() if part.op == "Const" else b""
            if len(content) > _SMALL_BYTES:
                name = self.constants.get(content) or self.new_constants.setdefault(content, name)
            if name not in called.values():
                fresh.append((name, part))
            called[part.name] = name

        def full_name(tensor: str) -> str:
            own, _, port = tensor.partition(":")
            return called[own] if port in ("", "0") else f"{called[own]}:{port}"

        known = {part.name for part in self.nodes} | set(self.constants.values())
        for name, part in fresh:
            if name in known:
                continue
            part.input[:] = [full_name(x) for x in part.input]
            part.name = name
            self.nodes.append(part)
        return full_name


def _replace_nodes(graph: Any, replaced: Collection[str], added: Sequence[Any]) -> None:
    """Remove the nodes named in ``replaced`` from ``graph``, and add the nodes ``added``."""
    for place in reversed(range(len(graph.node))):
        if graph.node[place].name in replaced:
            del graph.node[place]
    graph.node.extend(added)
    gone = {f"^{name}" for name in set(replaced) - {node.name for node in added}}
    for node in graph.node:
        if not gone.isdisjoint(node.input):
            node.input[:] = [x for x in node.input if x not in gone]
