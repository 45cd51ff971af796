"""Look up the pixel format of a Keras application by its name, without importing Keras."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_partition.inputs.pixels import FULL_RANGE, IMAGENET, IMAGENET_BGR, MINUS_ONE_TO_ONE

if TYPE_CHECKING:
    from edge_core.contract.manifest import Pixels

#: One row for each family of Keras applications:
#: - A pattern for the names of the applications and of their models, in lower case and without
#:   hyphens and underscores.
#: - The pixel format of the pictures that the family's function ``preprocess_input`` returns.
#: - The resize filter that the authors of the family use. Keras does not document the filter.
#: Sources of the filters:
#: EfficientNet: google/automl, efficientnetv2/preprocess_legacy.py (``tf.image.resize``, bicubic);
#: EfficientNetV2: google/automl, efficientnetv2/preprocessing.py (``tf.image.resize``, bilinear);
#: ConvNeXt: facebookresearch/ConvNeXt, datasets.py (bicubic);
#: Inception, MobileNet, NASNet, ResNet and VGG: tensorflow/models, research/slim/preprocessing
#: (``resize_bilinear`` in inception_preprocessing.py and vgg_preprocessing.py).
#: The filters of DenseNet and Xception are unknown; bilinear is assumed.
_FAMILIES: tuple[tuple[str, Pixels, str], ...] = (
    (r"mobilenetv3(small|large)", FULL_RANGE, "bilinear"),
    (r"mobilenet(v2)?([\d.]+)?", MINUS_ONE_TO_ONE, "bilinear"),
    (r"efficientnetb\d", FULL_RANGE, "bicubic"),
    (r"efficientnetv2(b\d|s|m|l)", FULL_RANGE, "bilinear"),
    (r"convnext(tiny|small|base|large|xlarge)", FULL_RANGE, "bicubic"),
    (r"inception(resnetv2|v3)|nasnet(mobile|large)?|xception", MINUS_ONE_TO_ONE, "bilinear"),
    (r"resnet(50|101|152)v2", MINUS_ONE_TO_ONE, "bilinear"),
    (r"resnet(50|101|152)|vgg(16|19)", IMAGENET_BGR, "bilinear"),
    (r"densenet(121|169|201)", IMAGENET, "bilinear"),
)


def application_pixels(name: str) -> Pixels | None:
    """Return the pixel format of a Keras application; None if ``name`` names no application.

    Args:
        name: Name of the application (``MobileNetV2``) or of the model that the application builds
            (``mobilenetv2_1.00_224``).
    """
    key = re.sub(r"[-_]", "", name.lower())
    for pattern, pixels, resize in _FAMILIES:
        if re.fullmatch(pattern, key):
            return replace(pixels, resize=resize, said_by="application")
    return None
