"""Rules that compute TensorFlow's operators on complex numbers with pairs of real tensors.

TFLite itself has a Fourier transform of real numbers, for lengths that are a power of two, and few
operators on complex numbers. The rules compute a Fourier transform as a product with float32
matrices of cosines and sines. A fast Fourier transform would take hundreds of operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edge_partition.model.formula import constant, multiply_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Largest size of the matrices of one Fourier transform, in bytes. A transform of 2,896 complex or
#: 4,095 real values reaches this size. Larger matrices would take more memory than most models.
MAX_MATRIX_BYTES = 64 * 2**20


class TransformTooLargeError(Exception):
    """The matrices of a Fourier transform would be too large; the message gives their size."""


@dataclass(frozen=True)
class Pair:
    """A complex tensor.

    Attributes:
        re: The real part.
        im: The imaginary part; None if all imaginary parts are zero.
    """

    re: Any
    im: Any = None


Rule: TypeAlias = "Callable[..., Any]"


def apply_node(node: Any, inputs: list[Any]) -> list[Any]:
    """Apply a node's operator to ``inputs`` instead of the node's own inputs; return the outputs.

    The dtype complex64 in the node's attributes is replaced by float32.
    """
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds

    copy = tf.compat.v1.NodeDef()
    copy.CopyFrom(node.node_def)
    copy.name = node.type
    del copy.input[:]
    copy.input.extend(f"input_{place}" for place in range(len(inputs)))
    for key in list(copy.attr):
        if key.startswith("_"):
            del copy.attr[key]
        elif copy.attr[key].type == tf.complex64.as_datatype_enum:
            copy.attr[key].type = tf.float32.as_datatype_enum
    return list(
        tf.graph_util.import_graph_def(
            tf.compat.v1.GraphDef(node=[copy]),
            input_map={f"input_{place}:0": x for place, x in enumerate(inputs)},
            return_elements=[f"{node.type}:{port}" for port in range(len(node.outputs))],
            name="",
        )
    )


def _imaginary(x: Pair) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.zeros(x.re.shape) if x.im is None else x.im


def _add(a: Any, b: Any, sign: int = 1) -> Any:
    """Return ``a + sign * b``; None counts as zero."""
    if b is None:
        return a
    if a is None:
        return b if sign > 0 else -b
    return a + b if sign > 0 else a - b


def _both_parts(node: Any, *inputs: Any) -> list[Pair]:
    """Apply an operator, such as a sum or a reshape, to real and imaginary parts separately."""
    parts = [apply_node(node, [x.re if isinstance(x, Pair) else x for x in inputs])]
    if all(x.im is None for x in inputs if isinstance(x, Pair)):
        return [Pair(re) for re in parts[0]]
    parts.append(apply_node(node, [_imaginary(x) if isinstance(x, Pair) else x for x in inputs]))
    return [Pair(re, im) for re, im in zip(*parts, strict=True)]


def _product(node: Any, a: Pair, b: Pair) -> Pair:
    """Multiply two complex tensors, as matrices or element by element."""

    def times(x: Any, y: Any) -> Any:
        return None if x is None or y is None else apply_node(node, [x, y])[0]

    attributes = node.node_def.attr
    if attributes["adj_x"].b:
        a = _conj(node, a)
    if attributes["adj_y"].b:
        b = _conj(node, b)
    return Pair(
        _add(times(a.re, b.re), times(a.im, b.im), -1),
        _add(times(a.re, b.im), times(a.im, b.re)),
    )


def _einsum(node: Any, *inputs: Pair) -> Any:
    pairwise = 2
    return _product(node, *inputs) if len(inputs) == pairwise else _both_parts(node, *inputs)


def _multiply(a: Pair, b: Pair) -> Pair:
    def times(x: Any, y: Any) -> Any:
        return None if x is None or y is None else x * y

    return Pair(
        _add(times(a.re, b.re), times(a.im, b.im), -1),
        _add(times(a.re, b.im), times(a.im, b.re)),
    )


def _square(_: Any, x: Pair) -> Pair:
    return _multiply(x, x)


def _divide(node: Any, a: Pair, b: Pair) -> Pair:
    if b.im is None:
        return Pair(a.re / b.re, None if a.im is None else a.im / b.re)
    quotient = _multiply(a, _conj(node, b))
    size = b.re * b.re + b.im * b.im
    return Pair(quotient.re / size, quotient.im / size)


def _exp(_: Any, x: Pair) -> Pair:
    import tensorflow as tf  # noqa: PLC0415

    size = tf.exp(x.re)
    return Pair(size) if x.im is None else Pair(size * tf.cos(x.im), size * tf.sin(x.im))


def _conj(_: Any, x: Pair) -> Pair:
    return Pair(x.re, None if x.im is None else -x.im)


def _complex(_: Any, re: Any, im: Any) -> Pair:
    import tensorflow as tf  # noqa: PLC0415

    value = tf.get_static_value(im)
    is_zero = value is not None and im.shape == re.shape and not np.any(value)
    if is_zero:
        return Pair(re)
    shape = tf.broadcast_static_shape(re.shape, im.shape)
    return Pair(*(x if x.shape == shape else tf.broadcast_to(x, shape) for x in (re, im)))


def _constant(node: Any) -> Pair:
    import tensorflow as tf  # noqa: PLC0415

    value = tf.make_ndarray(node.get_attr("value"))
    im = tf.constant(value.imag) if np.any(value.imag) else None
    return Pair(tf.constant(value.real), im)


def _cast(node: Any, x: Any) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    if not isinstance(x, Pair):
        return Pair(tf.cast(x, tf.float32))
    if node.outputs[0].dtype == tf.complex64:
        return x
    return tf.cast(x.re, node.outputs[0].dtype)


def _real(_: Any, x: Pair) -> Any:
    return x.re


def _imag(_: Any, x: Pair) -> Any:
    return _imaginary(x)


def _abs(_: Any, x: Pair) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.abs(x.re) if x.im is None else tf.sqrt(x.re * x.re + x.im * x.im)


def _angle(_: Any, x: Pair) -> Any:
    import tensorflow as tf  # noqa: PLC0415

    return tf.atan2(_imaginary(x), x.re)


# Fourier transforms.


def _transform_matrices(
    length: int, bins: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the cosines and the sines of ``2 pi j k / length`` for row ``j`` and column ``k``.

    Both matrices have ``length`` rows and ``bins`` columns.

    Raises:
        TransformTooLargeError: The matrices would be too large.
    """
    size_bytes = 2 * length * bins * np.dtype("float32").itemsize
    if size_bytes > MAX_MATRIX_BYTES:
        raise TransformTooLargeError(
            f"computes a Fourier transform of {length:,} values. In TFLite, this transform needs "
            f"matrices of {size_bytes / 1e6:.0f} MB, and the limit is "
            f"{MAX_MATRIX_BYTES / 1e6:.0f} MB. Transform shorter frames, or compute the transform "
            "outside the model."
        )
    # The modulo keeps the angles small, because large angles lose digits.
    phases = (np.arange(length)[:, None] * np.arange(bins) % length) / length
    return np.cos(2 * np.pi * phases), np.sin(2 * np.pi * phases)


def _transform(x: Pair, axis: int, inverse: bool) -> Pair:
    length = x.re.shape[axis]
    cosines, sines = _transform_matrices(length, length)
    if inverse:
        cosines, sines = cosines / length, -sines / length
    re, im = multiply_axis(x.re, cosines, axis), multiply_axis(x.re, -sines, axis)
    if x.im is None:
        return Pair(re, im)
    return Pair(re + multiply_axis(x.im, sines, axis), im + multiply_axis(x.im, cosines, axis))


def _complex_transform(axes: int, inverse: bool = False) -> Rule:
    def transform(_: Any, x: Pair) -> Pair:
        for axis in range(-1, -axes - 1, -1):
            x = _transform(x, axis, inverse)
        return x

    return transform


def _fit(x: Any, sizes: Any) -> Any:
    """Return ``x`` with its last axes cut to ``sizes`` or padded with zeros to ``sizes``."""
    import tensorflow as tf  # noqa: PLC0415

    shape = x.shape.as_list()
    wanted = [*shape[: len(shape) - len(sizes)], *sizes]
    kept = [min(pair) for pair in zip(shape, wanted, strict=True)]
    if kept != shape:
        x = tf.slice(x, [0] * len(shape), kept)
    if kept != wanted:
        x = tf.pad(x, [(0, want - keep) for want, keep in zip(wanted, kept, strict=True)])
    return x


def _real_transform(axes: int) -> Rule:
    def transform(_: Any, x: Any, sizes: Any) -> Pair:
        lengths = constant(sizes).tolist()
        x = _fit(x, lengths)
        cosines, sines = _transform_matrices(lengths[-1], lengths[-1] // 2 + 1)
        pair = Pair(multiply_axis(x, cosines, -1), multiply_axis(x, -sines, -1))
        for axis in range(-2, -axes - 1, -1):
            pair = _transform(pair, axis, inverse=False)
        return pair

    return transform


def _inverse_real_transform(axes: int) -> Rule:
    """Return a rule for the inverse Fourier transform to real numbers over the last ``axes`` axes.

    The input contains only one bin of each pair of complex conjugates, so each bin counts twice.
    The exceptions are the first bin and, for an even length, the last bin.
    """

    def transform(_: Any, x: Pair, sizes: Any) -> Any:
        lengths = constant(sizes).tolist()
        length = lengths[-1]
        bins = length // 2 + 1
        x = Pair(*(None if part is None else _fit(part, [*lengths[:-1], bins])
                   for part in (x.re, x.im)))  # fmt: skip
        for axis in range(-axes, -1):
            x = _transform(x, axis, inverse=True)
        cosines, sines = _transform_matrices(length, bins)
        weights = np.full(bins, 2 / length)
        weights[0] = 1 / length
        if length % 2 == 0:
            weights[-1] = 1 / length
        y = multiply_axis(x.re, (cosines * weights).T, -1)
        return y if x.im is None else y - multiply_axis(x.im, (sines * weights).T, -1)

    return transform


_PARTWISE = (
    "AddN", "AddV2", "BroadcastTo", "ConcatV2", "ExpandDims", "GatherV2", "GatherNd", "Identity",
    "BiasAdd", "Mean", "MirrorPad", "Neg", "Pack", "Pad", "PadV2", "Reshape", "ReverseV2", "Roll",
    "SelectV2", "Slice", "Split", "SplitV", "Squeeze", "StopGradient", "StridedSlice", "Sub",
    "Sum", "Tile", "Transpose", "Unpack", "ZerosLike",
)  # fmt: skip

#: The rule for each operator, by TensorFlow's operator name.
COMPLEX_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_PARTWISE, _both_parts),
    "Angle": _angle,
    "BatchMatMulV2": _product,
    "Cast": _cast,
    "Complex": _complex,
    "ComplexAbs": _abs,
    "Conj": _conj,
    "Const": _constant,
    "Einsum": _einsum,
    "Exp": _exp,
    "FFT": _complex_transform(1),
    "FFT2D": _complex_transform(2),
    "FFT3D": _complex_transform(3),
    "IFFT": _complex_transform(1, inverse=True),
    "IFFT2D": _complex_transform(2, inverse=True),
    "IFFT3D": _complex_transform(3, inverse=True),
    "IRFFT": _inverse_real_transform(1),
    "IRFFT2D": _inverse_real_transform(2),
    "Imag": _imag,
    "MatMul": _product,
    "Mul": _product,
    "RFFT": _real_transform(1),
    "RFFT2D": _real_transform(2),
    "Real": _real,
    "RealDiv": _divide,
    "Square": _square,
}

#: Fourier transforms, and operators that convert between real and complex numbers. A graph with
#: complex numbers contains at least one of these operators.
COMPLEX_ENDS = frozenset({"Angle", "Complex", "ComplexAbs", "Conj", "Imag", "Real"}) | {
    name for name in COMPLEX_RULES if "FFT" in name
}
