"""Explain a failed conversion: find operators and layers in TensorFlow's exception and output."""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_partition.model.builtin_formulas import FORMULAS
from edge_partition.model.complex_pairs import COMPLEX_ENDS
from edge_partition.model.escape_names import restore_names
from edge_partition.model.find_reason import find_reason

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_MISSING_OPERATOR = re.compile(r"'tf\.(\w+)' op is neither a custom op")
_WRONG_DTYPE = re.compile(
    r"'tfl\.(\w+)' op (?:operand|result) #\d+ must be [^\n]*but got '?tensor<(?:[\d?]+x|\*x)*(\w+)>"
)
#: MLIR's names of dtypes for which TFLite has few operators.
_RARE_DTYPES = ("f64", "f16", "bf16", "i8", "i16", "i32", "i64", "ui8", "ui16", "ui32", "ui64")
_SOLVE = (
    "For matrices up to 3x3, write the determinant or the inverse as sums and products. For larger "
    "matrices, end the model before this layer, and do this step outside the model"
)
_DECOMPOSE = "End the model before this layer, and decompose the matrix outside the model"
_CHOOSE = (
    "End the model before this layer, and decode the scores outside the model. For CTC, take the "
    "class with the largest score in each step, then remove repetitions and blanks"
)
_WARP = (
    "Remove augmentation layers from the model. For a learned warp, gather the pixels with "
    "keras.ops.take, and multiply the pixels by their weights"
)
_ELEMENTWISE = (
    "This operator can be converted only if its shapes are fixed and if it is outside tf.cond, "
    "tf.map_fn and loops. Fix the shapes, or move the operator out of the branch or loop"
)
_BITS = re.compile(r"Bitwise|Invert|Shift")
_COMPLEX = (
    "Compute with two tensors: one for the real parts, one for the imaginary parts. Only complex64 "
    "is split into two tensors automatically, and only for some operators"
)
#: Advice for each missing operator, by TensorFlow's operator name; without the last full stop.
_ALTERNATIVES = {
    **{name: _ELEMENTWISE for name, _ in FORMULAS},
    **dict.fromkeys(
        (
            "LogMatrixDeterminant",
            "MatrixDeterminant",
            "MatrixInverse",
            "MatrixSolve",
            "MatrixTriangularSolve",
        ),
        _SOLVE,
    ),
    **dict.fromkeys(("Cholesky", "Eig", "Lu", "Qr", "SelfAdjointEigV2", "Svd"), _DECOMPOSE),
    **dict.fromkeys(COMPLEX_ENDS, _COMPLEX),
    "BesselI0": "Compute window functions such as Kaiser's with numpy, and use them as constants",
    "Bincount": "Sum keras.ops.one_hot over the values",
    "CTCBeamSearchDecoder": _CHOOSE,
    "CTCGreedyDecoder": _CHOOSE,
    "CropAndResize": "Crop with slices of fixed size, and resize the slices",
    "DenseBincount": "Sum keras.ops.one_hot over the values",
    "Dilation2D": "Use a max pooling, which is a dilation by a flat structuring element",
    "ImageProjectiveTransformV3": _WARP,
    "InTopKV2": "Return the indices of keras.ops.top_k, and compare the indices outside the model",
    "MaxPoolWithArgmax": (
        "Use max_pool without the argmax. To undo the pooling, use keras.ops.repeat and compare "
        "with the maximum"
    ),
    "NextAfter": "Add a small constant instead",
    "PyFunc": "Compute with keras.ops or TensorFlow's functions instead of Python's",
}
_ADVICE = (
    (
        r"dimension mismatch|type mismatch|expected.*calibrat",
        "Give examples with the shapes of the model's inputs.",
    ),
    (r"representative|calibrat", "Give more examples, or choose --quantize dynamic or float16."),
    (r"quantiz", "Choose --quantize dynamic, float16 or none."),
    (r"memory|allocat|exhausted", "Convert on a machine with more memory."),
)


@dataclass(frozen=True)
class Explanation:
    """The reason why a model could not be converted.

    Attributes:
        reason: Cause of the error, and advice for the user.
        operators: TensorFlow's names of the operators that TFLite lacks; may be empty.
        layers: Layers that cause the error. A layer in a nested model is given as a path, such as
            ``encoder/conv_1``.
    """

    reason: str
    operators: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


def explain_conversion(error: Exception, log: str, layers: Collection[str]) -> Explanation:
    """Return the reason why TensorFlow raised an exception during the conversion.

    Args:
        error: The exception that TensorFlow raised.
        log: TensorFlow's output.
        layers: Names of the layers, as they appear in the names of graph nodes.
    """
    text = f"{error}\n{log}"
    complaints = [line for line in text.splitlines() if "error: " in line]
    operators = tuple(sorted(set(_MISSING_OPERATOR.findall(text))))
    if operators:
        complaints = [line for line in complaints if _MISSING_OPERATOR.search(line)]
    holders = {_layer_of_error_line(line, layers) for line in complaints}
    if not complaints:
        holders.add(layer_of_exception(error))
    names = tuple(sorted(restore_names(layer) for layer in holders if layer))
    where = f" in layer {', '.join(names)}" if names else ""
    if operators:
        reason = _explain_operators(operators, text, where)
    elif match := _WRONG_DTYPE.search(text):
        reason = (
            f"TFLite's operator {match[1]} does not take {_dtype(match[2])}{where}. Compute this "
            "layer in float32."
        )
    else:
        said = _strip_locations(complaints[0]) if complaints else find_reason(error)
        reason = f"{said.rstrip('.')}{where}. {_advice(said, bool(names))}"
    return Explanation(restore_names(reason), operators, names)


def _explain_operators(operators: Sequence[str], text: str, where: str) -> str:
    """Return the message about operators that TFLite lacks, with advice.

    The message also names a dtype for which TFLite has few operators, such as ``float64``.
    """
    if all("Random" in name for name in operators):
        drawn = [name for name in operators if name != "StatelessRandomGetKeyCounter"]
        return (
            f"TFLite cannot draw the random numbers of {', '.join(drawn)}{where}. End the model "
            "before this layer, or let the layer draw random numbers only if training is True."
        )
    spelled, advice = [], _alternatives(operators)
    for name in operators:
        # The log lists an operator as `tf.MatMul(tensor<1x4xf64>, tensor<3x4xf64>) -> ...`.
        operand = re.search(rf"\btf\.{name}\(tensor<(?:[\d?]+x|\*x)*(\w+)>", text)
        if operand and operand[1] in _RARE_DTYPES:
            spelled.append(f"{name} of {_dtype(operand[1])}")
            dtype = "int32" if _BITS.search(name) else "float32"
            advice = f"Use {dtype} here, or replace the layer with operations that TFLite has."
        else:
            spelled.append(name)
    return f"TFLite has no operator for {', '.join(spelled)}{where}. {advice}"


def _alternatives(operators: Sequence[str]) -> str:
    """Return advice on how to replace missing operators, as sentences."""
    found = [_ALTERNATIVES[name] for name in operators if name in _ALTERNATIVES]
    if not found:
        return (
            "Replace the layer with operations that TFLite has, or end the model before the layer."
        )
    return f"{'. '.join(dict.fromkeys(found))}."


def _layer_of_error_line(line: str, layers: Collection[str]) -> str:
    """Return the layer that an error line of the converter names; ``""`` if none.

    An error line starts with ``loc(callsite(fused["MatMul:", "m/dense/MatMul@function"] at ...``.
    """
    for path in re.findall(r'"([^"]+)"', line):
        if layer := enclosing_layer(path.partition("@")[0], layers):
            return layer
    return ""


def _strip_locations(line: str) -> str:
    """Return an error line of the converter without locations in the source code or graph."""
    message = line.rpartition("error: ")[2]
    message = re.sub(r"'?tensor<((?:[\d?]+x|\*x)*)(\w+)>'?", _format_tensor, message)
    return f"TFLite's converter says: {' '.join(message.split())}"


def _format_tensor(match: re.Match[str]) -> str:
    return f"{_dtype(match[2])}[{', '.join(match[1].split('x')[:-1])}]"


def _dtype(mlir: str) -> str:
    """Return numpy's name of an MLIR element type, such as ``float64`` for ``f64``."""
    for short, name in (("bf", "bfloat"), ("ui", "uint"), ("f", "float"), ("i", "int")):
        if re.fullmatch(rf"{short}\d+", mlir):
            return "bool" if mlir == "i1" else mlir.replace(short, name, 1)
    return mlir


def _advice(said: str, has_layer: bool) -> str:
    """Return advice on an error, according to the words in the error's message.

    Args:
        said: Message of the error.
        has_layer: Whether the layer that caused the error is known.
    """
    for pattern, advice in _ADVICE:
        if re.search(pattern, said, re.IGNORECASE):
            return advice
    if has_layer:
        return "Change or replace this layer."
    return "Replace the operation in this message, or report the log to TensorFlow's developers."


def explain_crash(
    status: int, quantization: str, loops: tuple[str, ...], last_line: str = ""
) -> Explanation:
    """Return the reason why a converter process ended without an answer.

    Args:
        status: Exit status of the process. If a signal ended the process, the status is the
            negative number of the signal.
        quantization: Quantization of the conversion.
        loops: Names of the layers with loops.
        last_line: Last line of the process's output; may be empty.
    """
    if status >= 0:
        return Explanation(
            f"TFLite's converter ended with status {status} ({last_line or 'no output'}). Check "
            "that TensorFlow starts: python -c 'import tensorflow'."
        )
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL:
        return Explanation(
            f"TFLite's converter was killed ({name}), most likely because memory ran out. Close "
            "other programs, or convert on a machine with more memory."
        )
    crash = f"TFLite's converter crashed ({name})"
    if quantization == "int8" and loops:
        return Explanation(
            f"{crash}: int8 does not support loops, but layer {', '.join(loops)} contains a loop. "
            "Build recurrent layers with unroll=True, or choose --quantize dynamic or float16.",
            layers=loops,
        )
    if quantization != "none":
        return Explanation(
            f"{crash} with --quantize {quantization}. Choose another quantization, or leave "
            "--quantize out."
        )
    return Explanation(
        f"{crash}. Replace one layer after another, the most unusual first, until the conversion "
        "succeeds. Report the log to TensorFlow's developers."
    )


def enclosing_layer(node_name: str, layers: Collection[str]) -> str:
    """Return the path of the innermost layer that contains a node; ``""`` if none.

    For example, the node ``model/encoder/conv_1/Relu`` is in the layer ``model/encoder/conv_1``.

    Args:
        node_name: Name of the node, which is a path of scopes.
        layers: Names of the layers, as they appear in the names of graph nodes.
    """
    scopes = strip_numbers(node_name, layers).split("/")[:-1]
    while scopes and scopes[-1] not in layers:
        scopes.pop()
    return "/".join(scopes)


def strip_numbers(node_name: str, layers: Collection[str]) -> str:
    """Return a node's name without the numbers that TensorFlow added to the names of layers.

    Keras opens a layer's name scope twice: for the build and for the call. TensorFlow adds a number
    to the name of the second scope. For example, ``model_1/conv_1/Relu`` becomes
    ``model/conv/Relu`` if the names of the layers are ``model`` and ``conv``.

    Args:
        node_name: Name of the node, which is a path of scopes.
        layers: Names of the layers, as they appear in the names of graph nodes.
    """
    *scopes, operator = node_name.split("/")
    stems = [re.sub(r"_\d+$", "", scope) for scope in scopes]
    return "/".join(
        [
            stem if stem != scope and stem in layers else scope
            for scope, stem in zip(scopes, stems, strict=True)
        ]
        + [operator]
    )


def layer_of_exception(error: Exception) -> str:
    """Return the name of the innermost layer whose call raised ``error``; ``""`` if none."""
    modules = [sys.modules[name] for name in ("keras", "tf_keras") if name in sys.modules]
    kinds: tuple[Any, ...] = tuple(module.layers.Layer for module in modules)
    name = ""
    traceback = error.__traceback__
    while traceback is not None:
        caller = traceback.tb_frame.f_locals.get("self")
        # Models are layers too, but a model is never the innermost layer.
        if isinstance(caller, kinds) and not hasattr(caller, "layers"):
            name = str(caller.name)
        traceback = traceback.tb_next
    return name
