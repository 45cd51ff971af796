"""Find the operator that a layer's name refers to. The functions are pure.

A converter uses an operator's path, such as ``model/inner/dense/MatMul``, as the name of the
operator's output. Each part of the path except the last is a scope: a layer, or a model inside the
model. If the operator fuses several operations, their paths are joined with ``;``.

A user may give a layer's whole path, or only the end of the path. If a name is the whole path of
one layer and the end of another layer's path, the name refers to the former. A name that is only
the end of several paths is ambiguous, which is an error.
"""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING, TypeAlias

from edge_core.errors import EdgePartitionError
from edge_core.plain_text import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_partition.tflite.graph import Graph, Operator

Scope: TypeAlias = tuple[str, ...]

#: Number of layers that an error message lists; further layers are only counted.
_MAX_CHOICES = 8


class UnknownLayerError(EdgePartitionError):
    """A model has no layer or tensor of the requested name.

    Attributes:
        layer_name: The requested name.
        near_matches: Layers of the model with similar names, the most similar first.
    """

    def __init__(self, model_name: str, layer_name: str, near_matches: tuple[str, ...]) -> None:
        self.layer_name = layer_name
        self.near_matches = near_matches
        hint = (
            f"Did you mean {', '.join(map(plain_text, near_matches))}?"
            if near_matches
            else "`edge-partition inspect` lists the layers."
        )
        super().__init__(f"{model_name} has no layer or tensor named {layer_name!r}. {hint}")


class AmbiguousLayerError(EdgePartitionError):
    """Several layers of a model match the requested name.

    Attributes:
        layer_name: The requested name.
        choices: One name for each of these layers, in execution order. Each name matches only one
            layer.
    """

    def __init__(self, model_name: str, layer_name: str, choices: tuple[str, ...]) -> None:
        self.layer_name = layer_name
        self.choices = choices
        more = len(choices) - _MAX_CHOICES
        listed = ", ".join(map(plain_text, choices[:_MAX_CHOICES]))
        listed += f" and {more} more" if more > 0 else ""
        super().__init__(
            f"{model_name} has {len(choices)} layers named {layer_name!r}: {listed}. Name one of "
            "them."
        )


class LayerNames:
    """The names with which a user can refer to a model's operators."""

    def __init__(self, graph: Graph) -> None:
        self._model_name = graph.name
        # Each dictionary gives the index of the last operator with a name.
        self._labels: dict[str, int] = {}
        self._tensors: dict[str, int] = {}
        self._scopes: dict[Scope, int] = {}
        paths: set[Scope] = set()
        for op in graph.operators:
            if op.layer:
                self._labels[op.layer] = op.index
            for index in op.outputs:
                name = graph.tensors[index].name
                self._tensors[name] = op.index
                self._scopes.update(dict.fromkeys(scopes_of(name), op.index))
                paths.update(path for path in _paths(name) if path)
        # A name may omit the first scope, and all first scopes that the paths have in common.
        shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
        self._optional = max(1, len(list(shared)))
        self._by_end: dict[str, list[Scope]] = {}
        for scope in self._scopes:
            for start in range(len(scope)):
                self._by_end.setdefault("/".join(scope[start:]), []).append(scope)

    def last_operator(self, name: str) -> int:
        """Return the index of a layer's last operator, or of the operator that writes a tensor.

        Args:
            name: A layer's whole path, an operator's ``layer``, or a tensor's whole name. If
                ``name`` is more than one of these, the result is the largest of their indexes. A
                whole path may omit the first scopes (outer models) that all layers have in common.
                If ``name`` is none of these, ``name`` may be the end of one layer's path.

        Raises:
            UnknownLayerError: No layer or tensor has this name.
            AmbiguousLayerError: Several layers match the name.
        """
        found = self._find(name)
        if isinstance(found, int):
            return found
        if found:
            raise AmbiguousLayerError(self._model_name, name, self._choices(found))
        known = {*self._labels, *self._tensors}
        for scope in self._scopes:
            known.update(("/".join(scope[1:]), *scope[1:]))
        near = difflib.get_close_matches(name, sorted(known - {""}), n=3, cutoff=0.5)
        raise UnknownLayerError(self._model_name, name, tuple(near))

    def name_of(self, op: Operator, output_names: Iterable[str]) -> str | None:
        """Return a name for which :meth:`last_operator` returns the index of ``op``.

        The name of the operator's layer is preferred. The result is None if no name leads to
        ``op``.

        Args:
            op: The operator.
            output_names: Names of the operator's outputs.
        """
        output_names = tuple(output_names)
        scopes = [scope for name in output_names for scope in scopes_of(name)]
        candidates = [op.layer, *("/".join(scope[1:]) for scope in reversed(scopes))]
        candidates += ["/".join(scope) for scope in reversed(scopes)]
        candidates += output_names
        return next((name for name in candidates if name and self._find(name) == op.index), None)

    def _find(self, name: str) -> int | list[Scope]:
        """Return the index of the operator that ``name`` refers to.

        If ``name`` is ambiguous, the result is the list of the matching scopes (layers). If nothing
        matches, the list is empty.
        """
        whole = self._whole(name)
        if len(whole) > 1 and name not in self._tensors:
            return whole
        exact = [self._scopes[scope] for scope in whole] if len(whole) == 1 else []
        exact += [names[name] for names in (self._labels, self._tensors) if name in names]
        if exact:
            return max(exact)
        ending = self._by_end.get(name, [])
        return self._scopes[ending[0]] if len(ending) == 1 else ending

    def _whole(self, name: str) -> list[Scope]:
        """Return the scopes (layers) whose whole path is ``name``.

        ``name`` may lack up to ``_optional`` parts at the start of the path. Only the scopes for
        which ``name`` lacks the fewest parts are returned.
        """
        parts = name.count("/") + 1
        depths = [(len(scope) - parts, scope) for scope in self._by_end.get(name, [])]
        least = min((depth for depth, _ in depths), default=0)
        if least > self._optional:
            return []
        return [scope for depth, scope in depths if depth == least]

    def _choices(self, scopes: Iterable[Scope]) -> tuple[str, ...]:
        names = []
        for scope in sorted(scopes, key=lambda scope: self._scopes[scope]):
            short = "/".join(scope[1:])
            names.append(short if self._whole(short) == [scope] else "/".join(scope))
        return tuple(names)


def scopes_of(tensor_name: str) -> list[Scope]:
    """Return all scopes in a tensor's name, outer scopes first.

    A scope is a layer, or a model inside the model. Each scope is returned as a tuple of the parts
    of its path, such as ``("model", "inner")``. The name may contain several paths, one for each
    fused operation.
    """
    return [path[:stop] for path in _paths(tensor_name) for stop in range(1, len(path) + 1)]


def _paths(tensor_name: str) -> list[Scope]:
    return [tuple(path.split("/"))[:-1] for path in tensor_name.split(";")]
