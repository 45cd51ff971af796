"""A Keras layer that makes one call of an operation that is not a layer."""

from __future__ import annotations

from typing import Any, cast

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
from keras import tree

from edge_partition.model.call_template import Hole, map_leaves
from edge_partition.model.encode_operations import (
    decode,
    decode_operation,
    encode,
    encode_operation,
)

_PACKAGE = "edge_partition"


@keras.saving.register_keras_serializable(package=_PACKAGE)
class OperationLayer(keras.layers.Layer):  # type: ignore[misc]
    """A layer that makes one call of an operation.

    The inputs of the layer are the tensors of the call, in the order of the template's holes. The
    layer returns the result of the operation, which may be a tensor, a list or a dictionary.

    Args:
        operation: The operation. The layer does not cast its inputs, because the operation has its
            own rules for dtypes.
        arguments: The template of the call: ``(args, kwargs)`` with a
            :class:`~edge_partition.model.call_template.Hole` in place of each tensor.
        name: The layer's name.
    """

    def __init__(
        self, operation: keras.Operation, arguments: tuple[tuple[Any, ...], dict[str, Any]],
        *, name: str, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, autocast=False, **options)
        self.supports_masking = True
        self.operation = operation
        # In a layer's attributes, Keras replaces lists and dicts with types that track changes. In
        # the variables of a function, lists and dicts remain as they are.
        self._get_arguments = lambda: arguments
        self.built = True

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The template of the call, ``(args, kwargs)``."""
        return self._get_arguments()  # type: ignore[no-untyped-call]

    def call(self, *tensors: Any) -> Any:
        """Return the operation's result for ``tensors``."""
        args, kwargs = self._fill(tensors)
        result = self.operation(*args, **kwargs)
        # The operation Ndim returns a number. The next layer accepts only a tensor.
        return tree.map_structure(
            lambda leaf: keras.ops.convert_to_tensor(leaf) if type(leaf) in (int, float) else leaf,
            result,
        )

    def compute_output_spec(self, *tensors: Any) -> Any:
        """Return a symbolic tensor with the shape and dtype of the operation's result."""
        args, kwargs = self._fill(tensors)
        return self.operation.compute_output_spec(*args, **kwargs)

    def compute_mask(self, *_: Any, **__: Any) -> None:
        """Return None, because operations do not pass on Keras masks."""
        return

    def _fill(self, tensors: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def fill(leaf: Any) -> Any:
            return tensors[leaf.index] if isinstance(leaf, Hole) else leaf

        return cast("tuple[tuple[Any, ...], dict[str, Any]]", map_leaves(fill, self.arguments))

    def get_build_config(self) -> None:
        """Return None, because the layer has nothing to build."""
        return

    def get_config(self) -> dict[str, Any]:
        """Return the layer's settings, the operation and the template as JSON values."""
        config = super().get_config()
        config.pop("autocast", None)
        return {
            **config,
            "operation": encode_operation(self.operation),
            "arguments": encode(self.arguments),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OperationLayer:
        """Return a layer from the JSON values that :meth:`get_config` returned.

        Raises:
            WrapError: The operation is neither Keras's own nor registered with Keras.
        """
        options = dict(config)
        return cls(
            decode_operation(options.pop("operation")),
            decode(options.pop("arguments")),
            **options,
        )
