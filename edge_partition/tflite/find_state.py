"""Find the operators that keep state from one inference to the next, and describe the state.

Three kinds of state are recognized:

- A resource variable (``VAR_HANDLE``) that an inference assigns, in the main subgraph or in a
  called subgraph. A variable is constant and keeps no state if no operator assigns the variable, or
  if only ``CALL_ONCE`` assigns the variable, before the first inference. A hash table keeps no
  state either.
- A variable tensor (schema.fbs, table Tensor, ``is_variable``): the state of the fused recurrent
  operators (``UNIDIRECTIONAL_SEQUENCE_LSTM``, ``SVDF``, ...).
- A random generator with a seed: the state is the generator's position in its sequence of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ai_edge_litert import schema_py_generated as schema

from edge_partition.tflite.file_tables import called_subgraphs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_partition.tflite.graph import Graph

#: A resource variable's container and name, which identify the variable.
_Variable: TypeAlias = tuple[bytes, bytes]

_RANDOM = frozenset({"RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"})
#: An operator that runs a subgraph once in each interpreter, before the first inference.
_ONCE = "CALL_ONCE"


@dataclass
class _Uses:
    """How an operator or a subgraph uses state.

    Attributes:
        variables: Resource variables for which the operator or subgraph has a handle (a reference
            to the variable).
        assigns: Whether the operator or subgraph assigns a resource variable.
        keeps: Whether the operator or subgraph has state of its own: a variable tensor or a random
            generator with a seed.
        calls: Numbers of the called subgraphs.
    """

    variables: set[_Variable] = field(default_factory=set)
    assigns: bool = False
    keeps: bool = False
    calls: set[int] = field(default_factory=set)

    def add(self, other: _Uses) -> None:
        self.variables |= other.variables
        self.assigns |= other.assigns
        self.keeps |= other.keeps
        self.calls |= other.calls


def find_stateful(model: Any, kinds: Sequence[str]) -> frozenset[int]:
    """Return the indexes of the main subgraph's operators that keep state.

    Operators pass variables to called subgraphs. If a called subgraph assigns one of the variables
    that it gets, all of these variables count as assigned.

    Args:
        model: The root table (``schema_py_generated.Model``). The caller has checked the table's
            indexes.
        kinds: The operator name of each operator code, by the code's number.
    """
    finder = _Finder(model, kinds)
    main = finder.main_uses()
    assigned = {variable for uses in main if uses.assigns for variable in uses.variables}
    return frozenset(
        index for index, uses in enumerate(main) if uses.keeps or uses.variables & assigned
    )


class _Finder:
    """Finds out how each operator of a model uses state; each subgraph is read once."""

    def __init__(self, model: Any, kinds: Sequence[str]) -> None:
        self._model = model
        self._kinds = kinds
        self._own: dict[int, _Uses] = {}

    def main_uses(self) -> list[_Uses]:
        """Return how each operator of the main subgraph uses state.

        The uses in an operator's called subgraphs count as uses of the operator.
        """
        found = list(self._operators(0))
        for uses in found:
            for called in self._reached_from(uses.calls):
                if called not in self._own:
                    whole = self._own[called] = _Uses()
                    for inner in self._operators(called):
                        whole.add(inner)
                uses.variables |= self._own[called].variables
                uses.assigns |= self._own[called].assigns
                uses.keeps |= self._own[called].keeps
        return found

    def _reached_from(self, calls: set[int]) -> set[int]:
        reached: set[int] = set()
        waiting = list(calls)
        while waiting:
            index = waiting.pop()
            if index not in reached and 0 <= index < self._model.SubgraphsLength():
                reached.add(index)
                for uses in self._operators(index):
                    waiting.extend(uses.calls)
        return reached

    def _operators(self, subgraph: int) -> Iterator[_Uses]:
        """Yield how each operator of one subgraph uses state.

        The uses in called subgraphs are not included.
        """
        table = self._model.Subgraphs(subgraph)
        handles: dict[int, set[_Variable]] = {}
        for position in range(table.OperatorsLength()):
            op = table.Operators(position)
            kind = self._kinds[op.OpcodeIndex()]
            inputs = [op.Inputs(place) for place in range(op.InputsLength())]
            outputs = [op.Outputs(place) for place in range(op.OutputsLength())]
            uses = _Uses(keeps=_draws_seeded(op, kind))
            for tensor in inputs:
                uses.variables |= handles.get(tensor, set())
                uses.keeps |= tensor >= 0 and bool(table.Tensors(tensor).IsVariable())
            if kind == "VAR_HANDLE":
                uses.variables.add(_variable(op))
            uses.assigns = kind == "ASSIGN_VARIABLE"
            if kind != _ONCE:
                uses.calls.update(called_subgraphs(op))
            # IF and WHILE may return a handle that they received.
            for tensor in outputs if uses.variables and kind != "READ_VARIABLE" else ():
                handles[tensor] = uses.variables
            yield uses


def _variable(op: Any) -> _Variable:
    options = schema.OperatorT.InitFromObj(op).builtinOptions
    container, name = (getattr(options, key, None) or b"" for key in ("container", "sharedName"))
    return container, name


def _draws_seeded(op: Any, kind: str) -> bool:
    """Return whether an operator draws random numbers and has a seed.

    An operator has no seed if both of its seed options are 0.
    """
    if kind not in _RANDOM:
        return False
    options = schema.OperatorT.InitFromObj(op).builtinOptions
    return bool(getattr(options, "seed", 0) or getattr(options, "seed2", 0))


def say_state(graph: Graph, mode: str = "") -> str:
    """Describe a model's state in one or two sentences; return an empty text without state.

    Args:
        graph: The model.
        mode: What happens to the state between requests: ``keep`` or ``reset``, as in
            :attr:`~edge_core.contract.manifest.ModelInfo.state`. Empty if the user has not chosen
            yet.
    """
    if not graph.stateful:
        return ""
    kinds = sorted({graph.operators[position].kind for position in graph.stateful})
    first, last = min(graph.stateful), max(graph.stateful)
    where = f"operator {first}" if first == last else f"operators {first}-{last}"
    text = f"The model keeps state from one request to the next ({', '.join(kinds)} in {where})"
    if mode == "keep":
        return (
            f"{text}. With --state keep, each request of a client continues from the state of its "
            "previous request. The boards serve one client at a time, one request after the other."
        )
    if mode == "reset":
        return (
            f"{text}. Each request starts from the initial state; with --state keep, each request "
            "of a client would continue from the state of its previous request."
        )
    return (
        f"{text}. A stage with state runs on one board, and each request starts from the initial "
        "state unless the model is split with --state keep."
    )
