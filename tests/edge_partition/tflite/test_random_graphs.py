"""For random graphs and cuts, the chained slices give the whole model's bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from chained_slices import run_chained, run_whole
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from tflite_models import FlatModel

from edge_partition.tflite.read_tflite import TfliteModel, read_tflite

_MAX_WIDTH = 24
_UNARY = ("TANH", "LOGISTIC", "RELU", "ABS")
_BINARY = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}


@dataclass
class GraphBuilder:
    """A network of float32 tensors of shape ``(1, width)``, grown one operator at a time."""

    draw: st.DrawFn
    flat: FlatModel = field(default_factory=FlatModel)
    widths: dict[int, int] = field(default_factory=dict)
    shared: dict[tuple[int, ...], int] = field(default_factory=dict)

    def tensor(self, width: int) -> int:
        index = self.flat.tensor(f"t{len(self.flat.main.tensors)}", (1, width))
        self.widths[index] = width
        return index

    def constant(self, shape: tuple[int, ...]) -> int:
        """Return a new constant, an existing one, or a second tensor of an existing buffer."""
        kind = self.draw(st.sampled_from(("own", "shared", "alias")))
        if kind != "own" and shape in self.shared:
            known = self.shared[shape]
            if kind == "shared":
                return known
            alias = self.flat.tensor(f"alias{len(self.flat.main.tensors)}", shape)
            self.flat.main.tensors[alias].buffer = self.flat.main.tensors[known].buffer
            return alias
        number = len(self.flat.main.tensors)
        values = np.random.default_rng(number).standard_normal(shape).astype(np.float32)
        self.shared[shape] = self.flat.constant(f"constant{number}", values)
        return self.shared[shape]

    def grow(self) -> None:
        steps = (self._map, self._combine, self._scale, self._unpack)
        self.draw(st.sampled_from((*steps, self._mix, self._concatenate, self._split)))()

    def _pick(self, width: int | None = None) -> int:
        found = [index for index, other in self.widths.items() if width in {None, other}]
        return self.draw(st.sampled_from(found))

    def _map(self) -> None:
        x = self._pick()
        self.flat.operator(self.draw(st.sampled_from(_UNARY)), [x], [self.tensor(self.widths[x])])

    def _combine(self, left: int | None = None, right: int | None = None) -> None:
        left = self._pick() if left is None else left
        width = self.widths[left]
        right = self._pick(width) if right is None else right
        kind = self.draw(st.sampled_from(sorted(_BINARY)))
        self.flat.operator(kind, [left, right], [self.tensor(width)], _BINARY[kind]())

    def _scale(self) -> None:
        x = self._pick()
        self._combine(x, self.constant((1, self.widths[x])))

    def _unpack(self) -> None:
        """Add an operator fed by constants alone, which every reader of its result needs."""
        x = self._pick()
        shape = (1, self.widths[x])
        made = self.flat.tensor(f"unpacked{len(self.flat.main.tensors)}", shape)
        self.flat.operator("NEG", [self.constant(shape)], [made], schema.NegOptionsT())
        self._combine(x, made)
        self._combine(self._pick(shape[1]), made)

    def _mix(self) -> None:
        x, width = self._pick(), self.draw(st.integers(1, 8))
        weights = [self.constant((width, self.widths[x])), self.constant((width,))]
        options = schema.FullyConnectedOptionsT()
        self.flat.operator("FULLY_CONNECTED", [x, *weights], [self.tensor(width)], options)

    def _concatenate(self) -> None:
        parts = [self._pick() for _ in range(self.draw(st.integers(2, 4)))]
        total = sum(self.widths[part] for part in parts)
        if total > _MAX_WIDTH:
            return
        options = schema.ConcatenationOptionsT()
        options.axis = 1
        self.flat.operator("CONCATENATION", parts, [self.tensor(total)], options)

    def _split(self) -> None:
        x = self._pick()
        counts = [count for count in (2, 3, 4) if self.widths[x] % count == 0]
        if not counts:
            return
        options = schema.SplitOptionsT()
        options.numSplits = count = self.draw(st.sampled_from(counts))
        axis = self.flat.constant(f"axis{len(self.flat.main.tensors)}", np.array(1, np.int32))
        made = [self.tensor(self.widths[x] // count) for _ in range(count)]
        self.flat.operator("SPLIT", [axis, x], made, options)


@st.composite
def models(draw: st.DrawFn) -> TfliteModel:
    builder = GraphBuilder(draw)
    inputs = [
        builder.tensor(draw(st.sampled_from((2, 4, 6)))) for _ in range(draw(st.integers(1, 3)))
    ]
    for _ in range(draw(st.integers(4, 16))):
        builder.grow()
    made = sorted(set(builder.widths) - set(inputs))
    assume(made)
    others = draw(st.lists(st.sampled_from(sorted(builder.widths)), max_size=3, unique=True))
    outputs = list(dict.fromkeys([*others, made[-1]]))
    return read_tflite(builder.flat.to_bytes(inputs, outputs))


def random_payload(model: TfliteModel, seed: int) -> bytes:
    size_bytes = sum(tensor.size_bytes for tensor in model.graph.boundary(0))
    generator = np.random.default_rng(seed)
    return generator.standard_normal(size_bytes // 4).astype("<f4").tobytes()


@pytest.mark.slow
@settings(max_examples=250)
@given(model=models(), data=st.data())
def test_chained_slices_of_random_graphs_give_the_whole_models_bits(
    model: TfliteModel, data: st.DataObject
) -> None:
    graph = model.graph
    assume(graph.cuts)
    cuts = sorted(
        data.draw(st.lists(st.sampled_from(graph.cuts), min_size=1, max_size=4, unique=True))
    )
    payloads = [random_payload(model, seed) for seed in range(2)]
    wholes = [run_whole(model, payload) for payload in payloads]
    # An output that is the same for both inputs would hide a difference.
    assume(wholes[0] != wholes[1])
    event(f"up to {max(len(graph.boundary(cut)) for cut in cuts)} tensors cross a cut")
    for payload, whole in zip(payloads, wholes, strict=True):
        assert run_chained(model, cuts, payload) == whole, cuts
