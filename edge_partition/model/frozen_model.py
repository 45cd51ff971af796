"""A model as a frozen graph, which is the input of the conversion to TFLite."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_partition.model.assigned_variables import AssignedVariable
from edge_partition.model.conversion_log import ConversionError
from edge_partition.model.escape_names import restore_names
from edge_partition.model.explain_conversion import enclosing_layer

if TYPE_CHECKING:
    from pathlib import Path

#: Name of the file with the graph and its weights, which :meth:`FrozenModel.save` writes.
GRAPH_FILE = "graph.pb"
_LOOPS = ("While", "StatelessWhile")


@dataclass(frozen=True)
class FrozenModel:
    """A model as a frozen graph, which can be converted without the Keras model.

    Names of nodes, layers, inputs and outputs are escaped
    (:mod:`~edge_partition.model.escape_names`).

    Attributes:
        name: The model's name, not escaped.
        layers: Names of the layers, including the layers of nested models.
        inputs: TensorFlow's ``TensorSpec`` of each input, in the model's order.
        outputs: TensorFlow's ``TensorSpec`` of each output, in the model's order.
        content: The graph as a serialized ``GraphDef``. The nodes are named after layers.
        outline: The same ``GraphDef``, not serialized, with placeholders instead of weights.
        variables: Variables that the graph assigns and that an output depends on. All other
            variables of the model are constants in the graph.
        coarse: Operator and layer of each replaced operator whose replacement is too inaccurate in
            int8.
    """

    name: str
    layers: frozenset[str]
    inputs: tuple[Any, ...] = field(repr=False)
    outputs: tuple[Any, ...] = field(repr=False)
    content: bytes = field(repr=False)
    outline: Any = field(repr=False)
    variables: tuple[AssignedVariable, ...] = ()
    coarse: tuple[tuple[str, str], ...] = ()

    def check_quantization(self, quantization: str) -> None:
        """Refuse int8 for a model with operators that are too inaccurate in int8.

        Raises:
            ConversionError: ``quantization`` is ``int8``, and ``coarse`` is not empty.
        """
        if quantization != "int8" or not self.coarse:
            return
        operators, layers = (tuple(sorted(set(names))) for names in zip(*self.coarse, strict=True))
        raise ConversionError(
            self.name,
            f"TFLite has no operator for {', '.join(operators)} in layer {', '.join(layers)}. "
            "A replacement by other operators is too inaccurate in int8: the error is a tenth of "
            "the largest value or more. Choose --quantize dynamic or float16.",
            operators=operators,
            layers=layers,
        )

    def save(self, folder: Path) -> None:
        """Write the model into ``folder`` as protocol buffers, JSON and ``.npy`` files.

        Raises:
            OSError: The disk is full or not writable.
        """
        (folder / GRAPH_FILE).write_bytes(self.content)
        (folder / "outline.pb").write_bytes(self.outline.SerializeToString())
        for index, variable in enumerate(self.variables):
            np.save(folder / f"variable-{index}.npy", variable.value, allow_pickle=False)
        facts = {
            "name": self.name,
            "layers": sorted(self.layers),
            "inputs": [_spec_as_json(spec) for spec in self.inputs],
            "outputs": [_spec_as_json(spec) for spec in self.outputs],
            "variables": [variable.node for variable in self.variables],
            "coarse": self.coarse,
        }
        (folder / "model.json").write_text(json.dumps(facts))

    def loops(self) -> tuple[str, ...]:
        """Return the paths of the layers with loops, such as ``encoder/lstm_1``."""
        nodes = (node.name for node in self.outline.node if node.op in _LOOPS)
        found = {restore_names(enclosing_layer(name, self.layers)) for name in nodes}
        return tuple(sorted(found - {""}))

    @staticmethod
    def load(folder: Path) -> FrozenModel:
        """Return the model that :meth:`save` wrote into ``folder``."""
        import tensorflow as tf  # noqa: PLC0415

        facts = json.loads((folder / "model.json").read_text())
        outline = (folder / "outline.pb").read_bytes()
        return FrozenModel(
            name=facts["name"],
            layers=frozenset(facts["layers"]),
            inputs=tuple(tf.TensorSpec(*spec) for spec in facts["inputs"]),
            outputs=tuple(tf.TensorSpec(*spec) for spec in facts["outputs"]),
            content=(folder / GRAPH_FILE).read_bytes(),
            outline=tf.compat.v1.GraphDef.FromString(outline),
            variables=tuple(
                AssignedVariable(
                    node, np.load(folder / f"variable-{index}.npy", allow_pickle=False)
                )
                for index, node in enumerate(facts["variables"])
            ),
            coarse=tuple(map(tuple, facts["coarse"])),
        )


def _spec_as_json(spec: Any) -> list[Any]:
    """Return shape, dtype and name of a ``TensorSpec`` as JSON values."""
    shape = None if spec.shape.rank is None else spec.shape.as_list()
    return [shape, spec.dtype.name, spec.name]
