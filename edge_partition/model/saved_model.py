"""Read SavedModels: folders that ``tf.saved_model.save`` or Keras wrote.

Keras 3 writes a SavedModel with ``model.export``, and Keras 2 with ``model.save``. A signature of a
SavedModel is a TensorFlow function, so the Python code of the model is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.contract.manifest import TensorSpec
from edge_partition.facts.read_labels import read_labels
from edge_partition.model import keras_setup  # noqa: F401 -- before TensorFlow
from edge_partition.model.find_reason import find_reason
from edge_partition.model.reader import ReadModel
from edge_partition.model.settle_shapes import settle_shapes
from edge_partition.model.source_errors import ModelSourceError, WeightsUnavailableError
from edge_partition.model.traced_model import TracedModel, check_traceable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_partition.model.reader import ModelRequest

#: Name of the default signature in TensorFlow Serving, which most exporters use.
_DEFAULT_SIGNATURE = "serving_default"


def read_saved_model(request: ModelRequest) -> ReadModel:
    """Read one signature of a SavedModel, and the class names in the labels file beside its folder.

    Raises:
        WeightsUnavailableError: The user gives weights. A SavedModel has its own weights.
        ModelSourceError: The SavedModel cannot be read, or the signature cannot be chosen.
        InputShapeError: A dimension remains open, or a given shape does not fit.
    """
    source = request.source
    if request.weights is not None:
        raise WeightsUnavailableError(
            source, "is a SavedModel, which has its own weights. Leave --weights out."
        )
    model, notes = load_saved_model(
        source, input_shapes=request.input_shapes, signature=request.signature
    )
    return ReadModel(model, model.name, labels=read_labels(Path(source)), notes=notes)


def saved_model_name(source: str) -> str:
    """Return the name of a SavedModel: ``cats`` for the folder ``cats`` or ``cats/3``."""
    path = Path(source).resolve()
    return path.parent.name if path.name.isdigit() else path.name


def load_saved_model(
    source: str,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    signature: str | None = None,
) -> tuple[TracedModel, tuple[str, ...]]:
    """Load one signature of a SavedModel, and set the batch to 1 if the batch is open.

    Args:
        source: Path of the SavedModel's folder.
        input_shapes: Shapes without the batch, as
            :func:`~edge_partition.model.settle_shapes.settle_shapes` takes them. An input with one
            dimension, such as the samples of a sound, has no batch, so the whole shape must be
            given.
        signature: Name of the signature. The default is ``serving_default`` or the only signature.

    Returns:
        The model, and notes about the choice of the signature.

    Raises:
        ModelSourceError: The SavedModel cannot be read, lacks the signature, or has several
            signatures and none is given.
        InputShapeError: A dimension remains open, or a shape does not fit.
    """
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds

    try:
        loaded = tf.saved_model.load(source)
    except Exception as error:  # TensorFlow documents no type.
        raise ModelSourceError(
            source, f"cannot be read as a SavedModel ({find_reason(error)}). Save the model again."
        ) from error
    name, notes = _choose_signature(source, list(loaded.signatures), signature)
    function = loaded.signatures[name]
    # A signature takes its tensors by keyword. The names give the order of the inputs.
    open_specs = dict(sorted(function.structured_input_signature[1].items()))
    specs = _fix_specs(source, open_specs, input_shapes)
    output_names = sorted(function.structured_outputs)

    def call(tensors: list[Any]) -> list[Any]:
        given = {spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)}
        results = function(**given)
        return [results[name] for name in output_names]

    model = TracedModel(
        name=saved_model_name(source),
        inputs=specs,
        outputs=tuple(function.structured_outputs[name] for name in output_names),
        output_names=tuple(output_names),
        layers=_layer_names(function),
        function=call,
        owner=loaded,
    )
    check_traceable(source, model)
    return model, notes


def _choose_signature(
    source: str, names: list[str], wanted: str | None
) -> tuple[str, tuple[str, ...]]:
    known = ", ".join(sorted(names))
    if not names:
        raise ModelSourceError(
            source,
            "is a SavedModel without signatures. Save the model with "
            "tf.saved_model.save(..., signatures=...) or Keras's model.export.",
        )
    if wanted is not None:
        if wanted not in names:
            raise ModelSourceError(
                source,
                f"has no signature {wanted!r}; its signatures are {known}. Choose one of these "
                "with --signature.",
            )
        return wanted, ()
    # Keras's model.export saves one function under two names.
    if len(names) == 1 or set(names) == {_DEFAULT_SIGNATURE, "serve"}:
        return _DEFAULT_SIGNATURE if _DEFAULT_SIGNATURE in names else names[0], ()
    if _DEFAULT_SIGNATURE not in names:
        raise ModelSourceError(
            source, f"has several signatures: {known}. Choose one with --signature NAME."
        )
    note = (
        f"The model has several signatures ({known}); {_DEFAULT_SIGNATURE} is used. Choose another "
        "with --signature NAME."
    )
    return _DEFAULT_SIGNATURE, (note,)


def _fix_specs(
    source: str, specs: Mapping[str, Any], input_shapes: Mapping[str, Sequence[int]] | None
) -> tuple[TensorSpec, ...]:
    given = dict(input_shapes or {})
    fixed: dict[str, tuple[int, ...]] = {}
    waiting: dict[str, tuple[int | None, ...]] = {}
    for name, spec in specs.items():
        whole = given.get(name, given.get("") if len(specs) == 1 else None)
        if spec.shape.rank is None:
            if whole is None:
                raise ModelSourceError(
                    source,
                    f"input {name!r} takes any shape, but boards need fixed shapes. Give the shape "
                    f"without the batch, such as --input-shape '{name}=224,224,3'.",
                )
            fixed[name] = (1, *whole)
        elif spec.shape.rank == 1 and whole is not None:
            # An input with one dimension, such as the samples of a sound, has no batch.
            fixed[name] = tuple(whole)
        elif spec.shape.rank == 0:
            fixed[name] = ()
        else:
            waiting[name] = tuple(spec.shape)
    for name in fixed:
        given.pop(name, None)
    if waiting or given:
        if not waiting:
            given.pop("", None)
        rest = {name: shape[1:] for name, shape in waiting.items()}
        for name, shape in settle_shapes(source, rest, given).items():
            fixed[name] = (waiting[name][0] or 1, *shape)
    return tuple(TensorSpec(name, spec.dtype.name, fixed[name]) for name, spec in specs.items())


def _layer_names(function: Any) -> frozenset[str]:
    """Return the name scopes of a function's variables. Most scopes are names of layers."""
    names = [variable.name for variable in function.graph.variables]
    return frozenset(scope for name in names for scope in name.split("/")[:-1])
