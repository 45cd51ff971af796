"""Small ``.tflite`` files with state between inferences, or with operators of such files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_models import FlatModel

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (1, 4)
#: Time steps of a fused LSTM's input.
STEPS = 5
#: Initial values of variables: not zeros, which an interpreter's memory may have by chance.
INITIAL = np.array([[0.5, -1.25, 2.0, 3.0]], np.float32)


class StateModel(FlatModel):
    """A model under construction, with one or more subgraphs."""

    @contextmanager
    def subgraph(self) -> Iterator[int]:
        """Build another subgraph in the ``with`` block, without inputs and outputs."""
        main = self.main
        self.main = schema.SubGraphT()
        self.main.tensors, self.main.operators = [], []
        self.main.inputs = self.main.outputs = np.array([], np.int32)
        self.model.subgraphs.append(self.main)
        yield len(self.model.subgraphs) - 1
        self.main = main

    def handle(self, name: str = "count") -> int:
        tensor = self.tensor(f"{name}_handle_{len(self.main.tensors)}", (), "resource")
        options = schema.VarHandleOptionsT()
        options.sharedName = name
        self.operator("VAR_HANDLE", [], [tensor], options)
        return tensor

    def assign(self, handle: int, value: int) -> None:
        self.operator("ASSIGN_VARIABLE", [handle, value], [], schema.AssignVariableOptionsT())

    def read(self, handle: int) -> int:
        made = self.tensor(f"read_{len(self.main.tensors)}", SHAPE)
        self.operator("READ_VARIABLE", [handle], [made], schema.ReadVariableOptionsT())
        return made

    def start_with(self, values: np.ndarray, name: str = "count") -> None:
        """Initialize a variable, once an interpreter."""
        with self.subgraph() as index:
            self.assign(self.handle(name), self.constant("initial", values))
        options = schema.CallOnceOptionsT()
        options.initSubgraphIndex = index
        self.operator("CALL_ONCE", [], [], options)

    def add_constant(self, tensor: int, value: float, name: str) -> int:
        return self.sum(tensor, self.constant(f"{name}/c", np.full(SHAPE, value, np.float32)), name)

    def sum(self, left: int, right: int, name: str) -> int:
        made = self.tensor(name, SHAPE)
        self.operator("ADD", [left, right], [made], schema.AddOptionsT())
        return made

    def svdf(self, x: int, name: str = "svdf", first: float | None = None) -> int:
        """Keep the last three inputs in a variable tensor, and return their weighted sum.

        The initial state is zeros, or ``first``, which the file stores as float16.
        """
        random = np.random.default_rng(7)
        feature = self.constant(f"{name}/f", random.normal(size=(4, 4)).astype(np.float32))
        time = self.constant(f"{name}/t", random.normal(size=(4, 3)).astype(np.float32))
        state = self.tensor(f"{name}/state", (1, 12), variable=True)
        if first is not None:
            stored = self.constant(f"{name}/first", np.full((1, 12), first, np.float16))
            self.operator("DEQUANTIZE", [stored], [state], schema.DequantizeOptionsT())
        made = self.tensor(name, SHAPE)
        options: Any = schema.SVDFOptionsT()
        options.rank = 1
        self.operator("SVDF", [x, feature, time, -1, state], [made], options)
        return made

    def lstm(self, x: int, sizes: tuple[int, int], name: str) -> int:
        """A fused LSTM as the converter makes it, over :data:`STEPS` steps; two variable tensors.

        Inputs as ``unidirectional_sequence_lstm.cc`` of TensorFlow Lite numbers them.
        """
        random = np.random.default_rng(len(name))
        taken, units = sizes
        gates = [
            self.constant(f"{name}/{part}{gate}", random.normal(size=shape).astype(np.float32))
            for part, shape in (("x", (units, taken)), ("h", (units, units)), ("b", (units,)))
            for gate in range(4)
        ]
        states = [self.tensor(f"{name}/{state}", (1, units), variable=True) for state in ("h", "c")]
        made = self.tensor(name, (1, STEPS, units))
        options = schema.UnidirectionalSequenceLSTMOptionsT()
        options.fusedActivationFunction = schema.ActivationFunctionType.TANH
        inputs = [x, *gates[:8], -1, -1, -1, *gates[8:], -1, -1, *states, -1, -1, -1, -1]
        self.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [made], options)
        return made

    def accumulate(self, x: int, name: str = "total") -> int:
        """Add ``x`` to a resource variable and return the sum."""
        self.start_with(INITIAL)
        handle = self.handle()
        total = self.sum(self.read(handle), x, name)
        self.assign(handle, total)
        return total


def accumulator() -> bytes:
    """``total += x``, in a resource variable; answers ``total + 1``."""
    flat = StateModel()
    x = flat.tensor("x", SHAPE)
    return flat.to_bytes([x], [flat.add_constant(flat.accumulate(x), 1, "out")])


def only_read() -> bytes:
    """``x + variable``; only ``CALL_ONCE`` assigns the variable."""
    flat = StateModel()
    x = flat.tensor("x", SHAPE)
    flat.start_with(INITIAL)
    return flat.to_bytes([x], [flat.sum(flat.read(flat.handle()), x, "out")])


def assigned_elsewhere() -> bytes:
    """A variable that is only read, and a variable that is assigned and read."""
    flat = StateModel()
    x = flat.tensor("x", SHAPE)
    flat.start_with(INITIAL, "fixed")
    shifted = flat.sum(flat.read(flat.handle("fixed")), x, "shifted")
    return flat.to_bytes([x], [flat.accumulate(shifted)])


def assigned_in_a_branch() -> bytes:
    """A variable that only a branch of ``IF`` assigns, by a handle among its inputs."""
    flat = StateModel()
    x, choice = flat.tensor("x", SHAPE), flat.tensor("choice", (), "bool")
    flat.start_with(INITIAL)
    handle = flat.handle()
    branches = []
    for does_assign in (True, False):
        with flat.subgraph() as index:
            given, value = flat.tensor("given", (), "resource"), flat.tensor("value", SHAPE)
            if does_assign:
                flat.assign(given, value)
            flat.main.inputs = np.array([given, value], np.int32)
            flat.main.outputs = np.array([flat.add_constant(value, 1, "more")], np.int32)
            branches.append(index)
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = branches
    made = flat.tensor("made", SHAPE)
    flat.operator("IF", [choice, handle, x], [made], options)
    return flat.to_bytes([x, choice], [flat.sum(made, flat.read(handle), "out")])


def svdf(first: float | None = None) -> bytes:
    """A fused recurrent operator, between two operators without state."""
    flat = StateModel()
    x = flat.tensor("x", SHAPE)
    return flat.to_bytes(
        [x],
        [flat.add_constant(flat.svdf(flat.add_constant(x, 1, "before"), first=first), 2, "out")],
    )


def random_numbers(seed: int) -> bytes:
    """``x`` plus random numbers between 0 and 1; seed 0: no fixed seed."""
    flat = StateModel()
    x = flat.tensor("x", SHAPE)
    drawn = flat.tensor("drawn", SHAPE)
    options = schema.RandomOptionsT()
    options.seed = seed
    flat.operator(
        "RANDOM_UNIFORM", [flat.constant("shape", np.array(SHAPE, np.int32))], [drawn], options
    )
    return flat.to_bytes([x], [flat.sum(x, drawn, "out")])


def chain() -> bytes:
    """Operators 0: ``SVDF``; 1: an addition; 2 to 6: a resource variable; 7: an addition.

    The model can be cut at 1, 2 and 7.
    """
    flat = StateModel()
    x = flat.tensor("x", SHAPE)
    between = flat.add_constant(flat.svdf(x), 0.25, "between")
    return flat.to_bytes([x], [flat.add_constant(flat.accumulate(between), 1, "out")])


def fused_lstms() -> bytes:
    """``LSTM``, an addition, ``LSTM``; ``x`` is ``[1, STEPS, 3]``."""
    flat = StateModel()
    x = flat.tensor("x", (1, STEPS, 3))
    first = flat.lstm(x, (3, 6), "first")
    between = flat.tensor("between", (1, STEPS, 6))
    shift = flat.constant("shift", np.linspace(-1, 1, 6, dtype=np.float32))
    flat.operator("ADD", [first, shift], [between], schema.AddOptionsT())
    return flat.to_bytes([x], [flat.lstm(between, (6, 4), "second")])
