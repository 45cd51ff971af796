"""What pictures become for Keras's applications: by name, without Keras."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_partition.inputs.pixels import FULL_RANGE, IMAGENET, IMAGENET_BGR, MINUS_ONE_TO_ONE

if TYPE_CHECKING:
    from edge_core.contract.manifest import Pixels

#: By the names of the applications and of the models that they make, in small letters and without
#: hyphens and underscores: what each family's ``preprocess_input`` does (a test compares all 40),
#: and the filter that the family's authors resize with, which Keras does not say:
#: EfficientNet: google/automl, efficientnetv2/preprocess_legacy.py (``tf.image.resize``, bicubic);
#: EfficientNetV2: there, preprocessing.py (``tf.image.resize``, whose default is bilinear);
#: ConvNeXt: facebookresearch/ConvNeXt, datasets.py (bicubic);
#: Inception, MobileNet, NASNet, ResNet and VGG: tensorflow/models, research/slim/preprocessing
#: (``resize_bilinear`` in inception_preprocessing.py and vgg_preprocessing.py).
#: Of DenseNet and Xception as Keras has them nothing is known: bilinear.
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
    """Return what pictures become for an application; None where ``name`` is of none.

    Args:
        name: Of the application (``MobileNetV2``) or of its model (``mobilenetv2_1.00_224``).
    """
    key = re.sub(r"[-_]", "", name.lower())
    for pattern, pixels, resize in _FAMILIES:
        if re.fullmatch(pattern, key):
            return replace(pixels, resize=resize, said_by="application")
    return None
