"""KerasHub's backbones and tasks, small and without trained weights."""

from __future__ import annotations

from typing import Any

from people_models.spec import Lazy, PeopleModel, add, people_model

hub, models = Lazy("keras_hub"), Lazy("keras_hub.models")
NEEDS = (
    "keras-hub==0.32.0", "kagglehub==1.0.3", "kagglesdk==0.1.28", "regex==2026.11.19",
    "sentencepiece==0.2.3", "tokenizers==0.23.3", "python-dateutil==4.0.0", "pyyaml==6.0.4",
)  # fmt: skip
_SOURCE = NEEDS[0]
_TEXT = {"vocabulary_size": 100, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
_ENCODER = {**_TEXT, "intermediate_dim": 32, "max_sequence_length": 32}
_DECODER = {
    "vocabulary_size": 100, "num_layers": 2, "num_query_heads": 2, "hidden_dim": 16,
    "intermediate_dim": 32, "num_key_value_heads": 1,
}  # fmt: skip

#: Backbones by class: description and sizes.
_TEXT_BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "BertBackbone": ("BERT", _ENCODER),
    "RobertaBackbone": ("RoBERTa", _ENCODER),
    "DistilBertBackbone": ("DistilBERT", _ENCODER),
    "AlbertBackbone": ("ALBERT, whose layers share weights", {**_ENCODER, "embedding_dim": 8}),
    "ElectraBackbone": (
        "ELECTRA",
        {
            "vocab_size": 100, "num_layers": 2, "num_heads": 2, "hidden_dim": 16,
            "embedding_dim": 8, "intermediate_dim": 32, "max_sequence_length": 32,
        },
    ),
    "DebertaV3Backbone": (
        "DeBERTa v3, disentangled attention", {**_ENCODER, "bucket_size": 8},
    ),
    "FNetBackbone": (
        "FNet, Fourier transforms instead of attention",
        {key: value for key, value in _ENCODER.items() if key != "num_heads"},
    ),
    "GPT2Backbone": ("GPT-2", _ENCODER),
    "OPTBackbone": ("OPT", _ENCODER),
    "GPTNeoXBackbone": ("GPT-NeoX, rotary embeddings", _ENCODER),
    "BloomBackbone": ("BLOOM, ALiBi", {**_TEXT, "intermediate_dim": 32}),
    "FalconBackbone": (
        "Falcon",
        {
            "vocabulary_size": 100, "num_layers": 2, "num_attention_heads": 2, "hidden_dim": 16,
            "intermediate_dim": 32,
        },
    ),
    "LlamaBackbone": ("Llama 2", _DECODER),
    "MistralBackbone": ("Mistral", {**_DECODER, "sliding_window": 8}),
    "GemmaBackbone": ("Gemma", {**_DECODER, "head_dim": 8}),
    "Phi3Backbone": ("Phi-3", _DECODER),
    "QwenBackbone": ("Qwen 2.5", _DECODER),
    "T5Backbone": ("T5, an encoder and a decoder", {**_TEXT, "intermediate_dim": 32}),
    "BartBackbone": ("BART, an encoder and a decoder", _ENCODER),
}  # fmt: skip


def _backbone(name: str, sizes: dict[str, Any]) -> Any:
    return lambda: getattr(models, name)(**sizes)


for _class, (_what, _sizes) in _TEXT_BACKBONES.items():
    add(
        PeopleModel(
            name=f"hub-{_class.removesuffix('Backbone').lower()}",
            kind="KerasHub",
            source=_SOURCE,
            what=f"{_what}, 2 layers",
            form="function",
            build=_backbone(_class, _sizes),
            shapes={"": (12,)},
            ids={"": 100, "segment_ids": 2},
            needs=NEEDS,
        )
    )


def _hub_model(**details: Any) -> Any:
    details = {"form": "function", "needs": NEEDS, "low": -1, **details}
    return people_model("KerasHub", _SOURCE, **details)


def _small_resnet(**sizes: Any) -> Any:
    return models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 32, 32, 64],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        **sizes,
    )


@_hub_model(
    shapes={"encoder_features": (64, 20), "decoder_token_ids": (6,), "decoder_padding_mask": (6,)},
    ids={"": 100},
)
def hub_whisper() -> Any:
    """Whisper: mel features and tokens, three open inputs, two outputs."""
    return models.WhisperBackbone(
        100, 2, 2, 16, 32, num_mels=20, max_encoder_sequence_length=64,
        max_decoder_sequence_length=12,
    )  # fmt: skip


@_hub_model(
    shapes={
        "encoder_input_values": (2000, 1),
        "encoder_padding_mask": (2000,),
        "decoder_token_ids": (5,),
        "decoder_padding_mask": (5,),
    },
    ids={"": 60},
)
def hub_moonshine() -> Any:
    """Moonshine: speech from the waveform itself."""
    return models.MoonshineBackbone(
        vocabulary_size=60, filter_dim=16, encoder_num_layers=1, decoder_num_layers=1,
        hidden_dim=16, intermediate_dim=32, encoder_num_heads=2, decoder_num_heads=2,
    )  # fmt: skip


@_hub_model()
def hub_vit() -> Any:
    """ViT."""
    return models.ViTBackbone((32, 32, 3), (8, 8), 2, 2, 16, 32)


@_hub_model()
def hub_dinov2() -> Any:
    """DINOv2 with register tokens; the model resizes its position embeddings."""
    return models.DINOV2Backbone(
        8, 2, 16, 2, 32, num_register_tokens=2, use_mask_token=False, image_shape=(32, 32, 3),
        position_embedding_shape=(48, 48),
    )  # fmt: skip


@_hub_model(shapes={"": (64, 64, 3)})
def hub_resnet() -> Any:
    """ResNet-D as KerasHub builds it, of any picture size."""
    return _small_resnet()


@_hub_model(shapes={"": (64, 64, 3)})
def hub_cspdarknet() -> Any:
    """CSPDarkNet."""
    return models.CSPNetBackbone(
        stem_filters=8, stem_kernel_size=3, stem_strides=1, stackwise_depth=[1, 2],
        stackwise_strides=[2, 2], stackwise_num_filters=[16, 32], block_type="dark_block",
        stage_type="csp", bottle_ratio=[0.5], block_ratio=[0.5],
    )  # fmt: skip


@_hub_model()
def hub_segformer() -> Any:
    """SegFormer on a MiT encoder: segmentation with transposed attention."""
    encoder = models.MiTBackbone(
        layerwise_depths=[1, 1], num_layers=2, layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1], max_drop_path_rate=0.1, layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2], image_shape=(64, 64, 3), hidden_dims=[8, 16],
    )  # fmt: skip
    return models.SegFormerBackbone(image_encoder=encoder, projection_filters=16)


@_hub_model()
def hub_deeplab() -> Any:
    """DeepLab v3+ on ResNet."""
    return models.DeepLabV3Backbone(
        image_encoder=_small_resnet(image_shape=(64, 64, 3)), spatial_pyramid_pooling_key="P4",
        upsampling_size=4, dilation_rates=[6, 12], low_level_feature_key="P2",
        projection_filters=8, image_shape=(64, 64, 3),
    )  # fmt: skip


@_hub_model()
def hub_retinanet() -> Any:
    """RetinaNet's backbone and feature pyramid, five outputs in a dictionary."""
    return models.RetinaNetBackbone(
        image_encoder=_small_resnet(image_shape=(128, 128, 3)), min_level=3, max_level=6,
        use_p5=False, image_shape=(128, 128, 3),
    )  # fmt: skip


@_hub_model()
def hub_xception() -> Any:
    """Xception, three blocks."""
    return models.XceptionBackbone(
        [[8, 16], [16, 24], [24, 24]], [True, True, False], image_shape=(64, 64, 3)
    )


@_hub_model()
def hub_swin() -> Any:
    """Swin Transformer, shifted windows."""
    return models.SwinTransformerBackbone(
        image_shape=(32, 32, 3), embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4
    )


@_hub_model(shapes={"token_ids": (8,)}, ids={"": 60})
def hub_clip() -> Any:
    """CLIP: pictures and token ids, two inputs and two outputs."""
    vision = models.CLIPVisionEncoder(
        patch_size=8, hidden_dim=16, num_layers=2, num_heads=2, intermediate_dim=32,
        image_shape=(32, 32, 3),
    )  # fmt: skip
    text = models.CLIPTextEncoder(
        vocabulary_size=60, embedding_dim=16, hidden_dim=16, num_layers=2, num_heads=2,
        intermediate_dim=32, max_sequence_length=8,
    )  # fmt: skip
    return models.CLIPBackbone(vision, text, 8)


@_hub_model(form="keras", low=0, high=255)
def hub_image_classifier_file() -> Any:
    """A KerasHub ImageClassifier, saved as .keras and read again."""
    return models.ImageClassifier(
        backbone=_small_resnet(image_shape=(64, 64, 3)), num_classes=5, activation="softmax"
    )


@_hub_model(form="keras", shapes={"": (12,)}, ids={"": 100, "segment_ids": 2})
def hub_text_classifier_file() -> Any:
    """A KerasHub BertTextClassifier, saved as .keras and read again."""
    return models.BertTextClassifier(
        backbone=models.BertBackbone(**_ENCODER), num_classes=3, activation="softmax"
    )
