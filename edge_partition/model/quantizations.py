"""The ways in which a converted model stores its weights and activations."""

from __future__ import annotations

#: ``none``: float32. ``float16``: float16 weights. ``dynamic``: int8 weights. ``int8``: int8
#: weights and activations.
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
