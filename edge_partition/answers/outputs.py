"""Show one output of a model as a line of text and as JSON. The functions are pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from edge_core.plain_text import plain_text

#: Largest number of values of an output that ``--json`` lists.
_MAX_LISTED = 1000
#: Largest number of values of an output that the line of text lists.
_MAX_SHOWN = 8


@dataclass(frozen=True)
class ClassScore:
    """One class and its score.

    Attributes:
        label: The class's label, or its index as text if the class has no label.
        index: The class's index along the output's last axis.
        score: A probability from 0 to 1 if :attr:`Classes.is_probability` is true; if not, the
            value in the output.
    """

    label: str
    index: int
    score: float

    def to_json(self) -> dict[str, Any]:
        """Return the class as a JSON object; a score that is not finite becomes null."""
        return {"label": self.label, "index": self.index, "score": _finite(self.score)}


@dataclass(frozen=True, eq=False)
class OutputTensor:
    """The values of an output.

    Attributes:
        name: The output's name.
        dtype: The output's dtype as received from the board.
        shape: The output's shape as received from the board.
        values: The values, of shape ``shape``. Quantized integers are converted to real values.
        is_dequantized: Whether ``values`` were converted from quantized integers.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: np.ndarray
    is_dequantized: bool

    def __str__(self) -> str:
        """Return dtype and shape, then all values, or range and mean of more than 8 values."""
        text = f"{self.dtype}{list(self.shape)}"
        if 0 < self.values.size <= _MAX_SHOWN:
            return f"{text}: {', '.join(map(_number, self.values.reshape(-1).tolist()))}"
        summary = self.summary()
        if summary["mean"] is not None:
            text += f", {_number(summary['min'])} to {_number(summary['max'])}, "
            text += f"mean {_number(summary['mean'])}"
        return text + self.warning()

    def warning(self) -> str:
        """Return the numbers of NaN and infinite values as text in parentheses.

        The text is empty if all values are finite.
        """
        nan, infinite = self._not_finite()
        parts = [f"{count:,} {what}" for count, what in ((nan, "NaN"), (infinite, "infinite"))
                 if count]  # fmt: skip
        return f" ({' and '.join(parts)} of {self.values.size:,} values)" if parts else ""

    def summary(self) -> dict[str, Any]:
        """Return the finite values' minimum, maximum and mean: keys ``min``, ``max`` and ``mean``.

        For complex values, the magnitudes are used. All three are None if no value is finite.
        """
        values = np.abs(self.values) if np.iscomplexobj(self.values) else self.values
        finite = values[np.isfinite(values)]
        if not finite.size:
            return {"min": None, "max": None, "mean": None}
        return {
            "min": finite.min().item(),
            "max": finite.max().item(),
            "mean": float(finite.mean(dtype=np.float64)),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the output as a JSON object.

        If the output has at most 1,000 values, the object has the values too.
        """
        nan, infinite = self._not_finite()
        document: dict[str, Any] = {"name": self.name, "dtype": self.dtype}
        document |= {"shape": list(self.shape), "dequantized": self.is_dequantized}
        document |= {**self.summary(), "nan": nan, "infinite": infinite}
        if self.values.size <= _MAX_LISTED:
            document["values"] = _listed(self.values)
        return document

    def _not_finite(self) -> tuple[int, int]:
        return int(np.isnan(self.values).sum()), int(np.isinf(self.values).sum())


@dataclass(frozen=True)
class Classes:
    """An output with one score for each class.

    Attributes:
        tensor: The output's values.
        best: The classes with the highest scores, highest first, without classes whose score is
            NaN.
        is_probability: Whether the scores are known to be probabilities.
        is_labelled: Whether the classes have labels.
    """

    tensor: OutputTensor
    best: tuple[ClassScore, ...]
    is_probability: bool
    is_labelled: bool

    def __str__(self) -> str:
        """Return the best classes with their scores, in one line."""
        if not self.best:
            return f"no score is a number{self.tensor.warning()}"
        word = "" if self.is_labelled else "class " if self.is_probability else "index "
        shown = [f"{word}{plain_text(best.label)} {self._score(best.score)}" for best in self.best]
        text = ", ".join(shown) + self.tensor.warning()
        # Without labels and without a known meaning, the values may not be scores.
        return text if self.is_labelled or self.is_probability else f"{text}; {self.tensor}"

    def _score(self, score: float) -> str:
        return f"{score:.1%}" if self.is_probability else f"(score {_number(score)})"

    def to_json(self) -> dict[str, Any]:
        """Return the best classes as a JSON object, with the fields of the output's tensor."""
        return {
            "kind": "classes",
            "probabilities": self.is_probability,
            "best": [best.to_json() for best in self.best],
            **self.tensor.to_json(),
        }


@dataclass(frozen=True)
class Value:
    """An output that is a single value.

    Attributes:
        tensor: The output's values.
        value: The value; a probability from 0 to 1 if ``is_probability``.
        is_probability: Whether the value is known to be a probability.
    """

    tensor: OutputTensor
    value: Any
    is_probability: bool

    def __str__(self) -> str:
        """Return the value as text, a probability as a percentage."""
        is_share = self.is_probability and math.isfinite(self.value)
        return f"{self.value:.1%}" if is_share else _number(self.value)

    def to_json(self) -> dict[str, Any]:
        """Return the value as a JSON object, with the fields of the output's tensor."""
        value = _listed(np.asarray(self.value))
        document = {"kind": "value", "probabilities": self.is_probability, "value": value}
        return {**document, **self.tensor.to_json()}


@dataclass(frozen=True)
class Values:
    """An output that is neither a score for each class nor a single value.

    Attributes:
        tensor: The output's values.
    """

    tensor: OutputTensor

    def __str__(self) -> str:
        """Return the text of the output's tensor: dtype and shape, then values or range."""
        return str(self.tensor)

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the output's tensor as a JSON object."""
        return {"kind": "values", **self.tensor.to_json()}


Output: TypeAlias = Classes | Value | Values


def _number(value: Any) -> str:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _finite(value: float) -> float | None:
    """Return the number, or None for NaN and infinities, which JSON can't express."""
    return value if math.isfinite(value) else None


def _listed(values: np.ndarray) -> Any:
    """Return an array as nested lists for JSON.

    NaN and infinities become None. A complex number becomes a list of its real and its imaginary
    part.
    """
    if np.iscomplexobj(values):
        values = np.stack([values.real, values.imag], axis=-1)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values.tolist()
    listed = values.astype(object)
    listed[~np.isfinite(values)] = None
    return listed.tolist()
