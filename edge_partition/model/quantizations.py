"""The quantizations: number formats for the weights and activations of a converted model."""

from __future__ import annotations

#: ``none``: float32 weights and activations. ``float16``: float16 weights. ``dynamic``: int8
#: weights. ``int8``: int8 weights and activations.
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
