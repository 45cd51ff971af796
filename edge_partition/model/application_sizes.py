"""Input sizes of the Keras applications, from Keras's documentation."""

from __future__ import annotations

import re

#: Height and width of the square input pictures, in pixels; from
#: https://keras.io/api/applications/. A key is the beginning of an application's name, in lower
#: case and without ``-`` and ``_``. If several keys match a name, the longest key applies.
_DOCUMENTED_SIZE_PX = {
    "convnext": 224, "densenet": 224, "mobilenet": 224, "resnet": 224, "vgg": 224, "nasnet": 224,
    "nasnetlarge": 331, "inception": 299, "xception": 299,
    "efficientnetb0": 224, "efficientnetb1": 240, "efficientnetb2": 260, "efficientnetb3": 300,
    "efficientnetb4": 380, "efficientnetb5": 456, "efficientnetb6": 528, "efficientnetb7": 600,
    "efficientnetv2b0": 224, "efficientnetv2b1": 240, "efficientnetv2b2": 260,
    "efficientnetv2b3": 300, "efficientnetv2s": 384, "efficientnetv2m": 480,
    "efficientnetv2l": 480,
}  # fmt: skip


def documented_size_px(model_name: str) -> int | None:
    """Return the height and width in pixels of an application's square input pictures.

    Args:
        model_name: Name of the application or of its model.

    Returns:
        The size; None if the model is not an application.
    """
    key = re.sub(r"[-_]", "", model_name.lower())
    starts = [start for start in _DOCUMENTED_SIZE_PX if key.startswith(start)]
    return _DOCUMENTED_SIZE_PX[max(starts, key=len)] if starts else None
