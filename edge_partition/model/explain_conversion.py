"""TensorFlow's exceptions and output become a reason that names operators and layers."""

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
    "For matrices up to 3x3, write the determinant or the inverse as sums and products; for larger "
    "matrices, compute it outside the model"
)
_DECOMPOSE = "End the model before this layer, and decompose the matrix outside the model"
_CHOOSE = (
    "End the model before this layer, and decode its output outside the model (for CTC: take the "
    "largest score of each step, without repetitions and blanks)"
)
_WARP = (
    "Leave augmentation layers out of the deployed model; a learnt warp can gather its pixels with "
    "keras.ops.take and weight them"
)
_ELEMENTWISE = (
    "The operator converts only with fixed shapes, and only outside tf.cond, tf.map_fn and loops: "
    "fix the shapes, or move this step out of them"
)
_BITS = re.compile(r"Bitwise|Invert|Shift")
_COMPLEX = (
    "Compute with real and imaginary parts as two tensors: only complex64 is split into them "
    "automatically, and not for every operator"
)
#: Replacement of each operator, as a sentence without its full stop.
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
    "BesselI0": "Compute windows such as Kaiser's with numpy, as constants",
    "Bincount": "Sum keras.ops.one_hot over the values",
    "CTCBeamSearchDecoder": _CHOOSE,
    "CTCGreedyDecoder": _CHOOSE,
    "CropAndResize": "Crop with slices of fixed size, and resize the slices",
    "DenseBincount": "Sum keras.ops.one_hot over the values",
    "Dilation2D": "Use a max pooling, which is a dilation by a flat structuring element",
    "ImageProjectiveTransformV3": _WARP,
    "InTopKV2": "Return the indices of keras.ops.top_k, and compare outside the model",
    "MaxPoolWithArgmax": (
        "Use max_pool alone; unpool with keras.ops.repeat and a comparison with the maximum"
    ),
    "NextAfter": "Add a small constant",
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
    """Why a model could not be converted.

    Attributes:
        reason: Cause of the error, and advice.
        operators: TensorFlow's names of operators without a TFLite builtin.
        layers: Layers with the error, each preceded by the models that it is nested in.
    """

    reason: str
    operators: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


def explain_conversion(error: Exception, log: str, layers: Collection[str]) -> Explanation:
    """Return why TensorFlow raised ``error``.

    Args:
        error: TensorFlow's exception.
        log: TensorFlow's output.
        layers: Names of the layers, as parts of node names.
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
            "step in float32."
        )
    else:
        said = _strip_locations(complaints[0]) if complaints else find_reason(error)
        reason = f"{said.rstrip('.')}{where}. {_advice(said, bool(names))}"
    return Explanation(restore_names(reason), operators, names)


def _explain_operators(operators: Sequence[str], text: str, where: str) -> str:
    """Return the missing operators, with a dtype if only this dtype is missing, and advice."""
    if all("Random" in name for name in operators):
        drawn = [name for name in operators if name != "StatelessRandomGetKeyCounter"]
        return (
            f"TFLite cannot draw the random numbers of {', '.join(drawn)}{where}. End the model "
            "before this layer, or make the layer draw none when training is False."
        )
    spelled, advice = [], _alternatives(operators)
    for name in operators:
        # Listed as `tf.MatMul(tensor<1x4xf64>, tensor<3x4xf64>) -> ...`.
        operand = re.search(rf"\btf\.{name}\(tensor<(?:[\d?]+x|\*x)*(\w+)>", text)
        if operand and operand[1] in _RARE_DTYPES:
            spelled.append(f"{name} of {_dtype(operand[1])}")
            dtype = "int32" if _BITS.search(name) else "float32"
            advice = f"Compute this in {dtype}, or replace the layer by operations that TFLite has."
        else:
            spelled.append(name)
    return f"TFLite has no operator for {', '.join(spelled)}{where}. {advice}"


def _alternatives(operators: Sequence[str]) -> str:
    """Return the replacements of missing operators, as sentences."""
    found = [_ALTERNATIVES[name] for name in operators if name in _ALTERNATIVES]
    if not found:
        return "Replace the layer by operations that TFLite has, or end the model before it."
    return f"{'. '.join(dict.fromkeys(found))}."


def _layer_of_error_line(line: str, layers: Collection[str]) -> str:
    """Return the layer in an error line of the converter, or ``""``.

    An error line starts with ``loc(callsite(fused["MatMul:", "m/dense/MatMul@function"] at ...``.
    """
    for path in re.findall(r'"([^"]+)"', line):
        if layer := enclosing_layer(path.partition("@")[0], layers):
            return layer
    return ""


def _strip_locations(line: str) -> str:
    """Return an error line of the converter without locations in source code or graph."""
    message = line.rpartition("error: ")[2]
    message = re.sub(r"'?tensor<((?:[\d?]+x|\*x)*)(\w+)>'?", _format_tensor, message)
    return f"TFLite's converter says: {' '.join(message.split())}"


def _format_tensor(match: re.Match[str]) -> str:
    return f"{_dtype(match[2])}[{', '.join(match[1].split('x')[:-1])}]"


def _dtype(mlir: str) -> str:
    """Return numpy's name of an MLIR element type: ``float64`` for ``f64``."""
    for short, name in (("bf", "bfloat"), ("ui", "uint"), ("f", "float"), ("i", "int")):
        if re.fullmatch(rf"{short}\d+", mlir):
            return "bool" if mlir == "i1" else mlir.replace(short, name, 1)
    return mlir


def _advice(said: str, has_layer: bool) -> str:
    """Return advice on an error, chosen by words in the error's message."""
    for pattern, advice in _ADVICE:
        if re.search(pattern, said, re.IGNORECASE):
            return advice
    if has_layer:
        return "Change or replace this layer."
    return "Replace the operation that the message names, or report the log to TensorFlow."


def explain_crash(
    status: int, quantization: str, loops: tuple[str, ...], last_line: str = ""
) -> Explanation:
    """Return why a converter process ended without an answer.

    Args:
        status: Exit status of the process; the negative number of the signal that ended it.
        quantization: Quantization of the conversion.
        loops: Layers with loops.
        last_line: Last line of the process's output.
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
            f"{crash}: its int8 does not support loops, and layer {', '.join(loops)} has one. "
            "Build recurrent layers with unroll=True, or choose --quantize dynamic or float16.",
            layers=loops,
        )
    if quantization != "none":
        return Explanation(
            f"{crash} with --quantize {quantization}. Choose another quantization, or none."
        )
    return Explanation(
        f"{crash}. Replace layers one by one, the most unusual first, until the conversion "
        "succeeds, and report the log to TensorFlow."
    )


def enclosing_layer(node_name: str, layers: Collection[str]) -> str:
    """Return the innermost layer in a node's path, preceded by its models; ``""`` if none."""
    scopes = strip_numbers(node_name, layers).split("/")[:-1]
    while scopes and scopes[-1] not in layers:
        scopes.pop()
    return "/".join(scopes)


def strip_numbers(node_name: str, layers: Collection[str]) -> str:
    """Return a node's path with the exact names of its layers.

    Keras opens a layer's name scope twice, for the build and for the call, and TensorFlow adds a
    number to the second: ``model_1/conv_1/Relu`` for the layer ``conv``.
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
        # Models are layers too, but not the innermost ones.
        if isinstance(caller, kinds) and not hasattr(caller, "layers"):
            name = str(caller.name)
        traceback = traceback.tb_next
    return name
