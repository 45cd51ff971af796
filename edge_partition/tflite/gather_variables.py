"""Move the operators that use the same variable close together, to allow more cuts in a model.

A ``VAR_HANDLE`` operator returns a reference to a variable, called a handle. An ``ASSIGN_VARIABLE``
operator writes a value to the variable. No cut is allowed between the first and the last operator
that use a variable. But the converter puts all ``VAR_HANDLE`` operators first, and most
``ASSIGN_VARIABLE`` operators last.
"""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

_HANDLE = schema.BuiltinOperator.VAR_HANDLE
_ASSIGN = schema.BuiltinOperator.ASSIGN_VARIABLE
_ONCE = schema.BuiltinOperator.CALL_ONCE


def gather_variables(model: Any) -> None:
    """Move the main subgraph's operators that use the same variable closer together.

    - Each ``VAR_HANDLE`` moves down to the first operator that reads its handle (a reference to the
      variable).
    - Each ``CALL_ONCE`` moves down to the next ``VAR_HANDLE`` or ``CALL_ONCE``.
    - Each ``ASSIGN_VARIABLE`` moves up until it follows the operator that computes the assigned
      value, or another operator that uses the variable.

    Operators that use the same variable keep their order. Each operator stays after the operators
    whose results it reads.

    Args:
        model: A ``ModelT``, whose main subgraph is changed in place.
    """
    subgraph = model.subgraphs[0]
    operators = list(subgraph.operators)
    kinds = [model.operatorCodes[op.opcodeIndex].builtinCode for op in operators]
    kind_of = {id(op): kind for op, kind in zip(operators, kinds, strict=True)}
    names = {
        op.outputs[0]: (op.builtinOptions.container, op.builtinOptions.sharedName)
        for op in operators
        if kind_of[id(op)] == _HANDLE
    }

    def used(op: Any) -> set[Any]:
        """Return the variables to which an operator's inputs refer."""
        return {names[tensor] for tensor in _tensors(op.inputs) if tensor in names}

    for op in [x for x in reversed(operators) if kind_of[id(x)] == _HANDLE]:
        _sink(operators, op, lambda after, op=op: op.outputs[0] in _tensors(after.inputs))
    for op in [x for x in reversed(operators) if kind_of[id(x)] == _ONCE]:
        # The subgraph that CALL_ONCE runs may assign any variable.
        _sink(operators, op, lambda after: kind_of[id(after)] in (_HANDLE, _ONCE))
    for op in [x for x in operators if kind_of[id(x)] == _ASSIGN]:
        place = operators.index(op)
        taken, variables = set(_tensors(op.inputs)), used(op)
        while place and not (
            taken & set(_tensors(operators[place - 1].outputs))
            or variables & used(operators[place - 1])
        ):
            place -= 1
        operators.remove(op)
        operators.insert(place, op)
    subgraph.operators = operators


def _sink(operators: list[Any], op: Any, needs: Any) -> None:
    """Move ``op`` to just before the first later operator for which ``needs`` is true.

    If there is no such operator, ``op`` does not move.
    """
    place = operators.index(op)
    later = next((n for n in range(place + 1, len(operators)) if needs(operators[n])), place + 1)
    operators.insert(later, op)
    del operators[place]


def _tensors(indexes: Any) -> list[int]:
    return [] if indexes is None else [int(index) for index in indexes]
