"""Pictures: segmentation, detection, generation, restoration and attention."""

from __future__ import annotations

from typing import Any

from people_models.spec import Lazy, people_model

keras, L, ops = Lazy("keras"), Lazy("keras.layers"), Lazy("keras.ops")
_EXAMPLES = "after keras.io's example"


def _conv_twice(x: Any, filters: int) -> Any:
    for _ in range(2):
        x = L.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return x


@people_model("U-Net", "after Ronneberger et al. 2015")
def unet() -> Any:
    """Biomedical segmentation: two levels down and up, joined by concatenations."""
    x = inputs = keras.Input((64, 64, 1))
    skips = []
    for filters in (8, 16):
        x = _conv_twice(x, filters)
        skips.append(x)
        x = L.MaxPooling2D()(x)
    x = _conv_twice(x, 32)
    for filters, skip in zip((16, 8), reversed(skips), strict=True):
        x = L.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = _conv_twice(L.Concatenate()([skip, x]), filters)
    return keras.Model(inputs, L.Conv2D(1, 1, activation="sigmoid")(x))


@people_model("U-Net", f"{_EXAMPLES} oxford_pets_image_segmentation", low=0, high=1)
def pets_unet() -> Any:
    """Segmentation of pets: separable convolutions, residuals, UpSampling2D."""
    inputs = keras.Input((64, 64, 3))
    x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(16, 3, 2, padding="same")(inputs)))
    before = x
    for filters in (24, 32):
        for _ in range(2):
            x = L.SeparableConv2D(filters, 3, padding="same")(L.Activation("relu")(x))
            x = L.BatchNormalization()(x)
        x = L.MaxPooling2D(3, strides=2, padding="same")(x)
        before = x = L.add([x, L.Conv2D(filters, 1, strides=2, padding="same")(before)])
    for filters in (32, 24, 16):
        x = L.Conv2DTranspose(filters, 3, padding="same")(L.Activation("relu")(x))
        x = L.UpSampling2D(2)(L.BatchNormalization()(x))
        before = x = L.add([x, L.Conv2D(filters, 1, padding="same")(L.UpSampling2D(2)(before))])
    return keras.Model(inputs, L.Conv2D(3, 3, activation="softmax", padding="same")(x))


@people_model("U-Net", "after Oktay et al. 2018", form="h5")
def attention_unet() -> Any:
    """A U-Net whose skip connection passes an attention gate."""
    inputs = keras.Input((32, 32, 3))
    skip = _conv_twice(inputs, 8)
    deep = _conv_twice(L.MaxPooling2D()(skip), 16)
    gate = L.UpSampling2D(interpolation="bilinear")(L.Conv2D(8, 1)(deep))
    attention = L.Activation("relu")(L.Add()([L.Conv2D(8, 1)(skip), gate]))
    skip = L.Multiply()([skip, L.Conv2D(1, 1, activation="sigmoid")(attention)])
    up = L.Conv2DTranspose(8, 2, strides=2)(deep)
    x = _conv_twice(L.Concatenate()([skip, up]), 8)
    return keras.Model(inputs, L.Conv2D(2, 1, activation="softmax")(x))


@people_model("U-Net", f"{_EXAMPLES} deeplabv3_plus")
def deeplab_plus() -> Any:
    """Segmentation with dilated convolutions and a pooled branch that is resized."""
    inputs = keras.Input((64, 64, 3))
    low = L.Conv2D(16, 3, strides=4, padding="same", activation="relu")(inputs)
    x = L.Conv2D(32, 3, strides=2, padding="same", activation="relu")(low)
    pooled = L.AveragePooling2D(pool_size=(8, 8))(x)
    pooled = L.UpSampling2D((8, 8), interpolation="bilinear")(L.Conv2D(16, 1)(pooled))
    branches = [
        L.Conv2D(16, 3, dilation_rate=rate, padding="same", use_bias=False)(x) for rate in (1, 2, 4)
    ]
    branches.append(pooled)
    x = L.UpSampling2D((2, 2), interpolation="bilinear")(L.Concatenate()(branches))
    x = _conv_twice(L.Concatenate()([x, L.Conv2D(8, 1)(low)]), 16)
    x = L.UpSampling2D((4, 4), interpolation="bilinear")(x)
    return keras.Model(inputs, L.Conv2D(5, 1)(x))


@people_model("Detection heads", "after Redmon et al. 2018 (YOLOv3)")
def yolo_head() -> Any:
    """Three grids of anchors from a small backbone with LeakyReLU and zero padding."""
    x = inputs = keras.Input((96, 96, 3))
    grids = []
    for filters in (8, 16, 32, 64):
        x = L.ZeroPadding2D(((1, 0), (1, 0)))(x)
        x = L.Conv2D(filters, 3, strides=2, use_bias=False)(x)
        x = L.LeakyReLU(negative_slope=0.1)(L.BatchNormalization()(x))
        grids.append(x)
    outputs, up = [], None
    for grid in reversed(grids[1:]):
        y = grid if up is None else L.Concatenate()([up, grid])
        y = L.Conv2D(24, 1, activation="leaky_relu")(y)
        size = grid.shape[1]
        outputs.append(L.Reshape((size, size, 3, 8))(L.Conv2D(24, 1)(y)))
        up = L.UpSampling2D()(L.Conv2D(8, 1)(y))
    return keras.Model(inputs, outputs)


@people_model("Detection heads", f"{_EXAMPLES} retinanet")
def retinanet_heads() -> Any:
    """A feature pyramid and two heads that are shared by its levels."""
    inputs = keras.Input((64, 64, 3))
    c3 = L.Conv2D(16, 3, strides=8, padding="same", activation="relu")(inputs)
    c4 = L.Conv2D(32, 3, strides=2, padding="same", activation="relu")(c3)
    p4 = L.Conv2D(16, 1)(c4)
    p3 = L.Conv2D(16, 1)(c3) + L.UpSampling2D()(p4)
    p5 = L.Conv2D(16, 3, strides=2, padding="same")(c4)
    heads = [
        keras.Sequential(
            [
                keras.Input((None, None, 16)),
                L.Conv2D(16, 3, padding="same", activation="relu"),
                L.Conv2D(9 * values, 3, padding="same"),
            ]
        )
        for values in (4, 6)
    ]
    boxes = [L.Reshape((-1, 4))(heads[0](level)) for level in (p3, p4, p5)]
    classes = [L.Reshape((-1, 6))(heads[1](level)) for level in (p3, p4, p5)]
    joined = [L.Concatenate(axis=1)(boxes), L.Concatenate(axis=1)(classes)]
    return keras.Model(inputs, L.Concatenate(axis=-1)(joined))


@people_model("Detection heads", "after Zhou et al. 2019 (CenterNet)")
def centernet_head() -> Any:
    """Heat map, size and offset, three outputs in a dictionary; peaks found by max pooling."""
    inputs = keras.Input((64, 64, 3), name="image")
    x = L.Conv2D(16, 3, strides=4, padding="same", activation="relu")(inputs)
    heat = L.Conv2D(3, 1, activation="sigmoid")(x)
    peaks = L.MaxPooling2D(3, strides=1, padding="same")(heat)
    heat = heat * ops.cast(ops.equal(heat, peaks), "float32")
    return keras.Model(
        inputs, {"size": L.Conv2D(2, 1)(x), "heat": heat, "offset": L.Conv2D(2, 1)(x)}
    )


@people_model("Detection heads", f"{_EXAMPLES} keypoint_detection", low=0, high=255)
def dog_keypoints() -> Any:
    """Keypoints of dogs: MobileNetV2 and separable convolutions down to one pixel."""
    backbone = keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, include_top=False, weights=None
    )
    x = inputs = keras.Input((96, 96, 3))
    x = backbone(keras.applications.mobilenet_v2.preprocess_input(x))
    x = L.SeparableConv2D(48, 3, activation="relu")(L.Dropout(0.3)(x))
    return keras.Model(inputs, L.Reshape((1, 1, 48))(x))


@people_model("Autoencoders and generators", f"{_EXAMPLES} autoencoder", form="h5")
def denoising_autoencoder() -> Any:
    """Denoising of digits: convolutions, pooling, transposed convolutions."""
    x = inputs = keras.Input((28, 28, 1))
    for _ in range(2):
        x = L.Conv2D(16, 3, activation="relu", padding="same")(x)
        x = L.MaxPooling2D(2, padding="same")(x)
    for _ in range(2):
        x = L.Conv2DTranspose(16, 3, strides=2, activation="relu", padding="same")(x)
    return keras.Model(inputs, L.Conv2D(1, 3, activation="sigmoid", padding="same")(x))


def _vae_encoder() -> Any:
    class Sampling(keras.layers.Layer):
        """Draws a point of the latent space."""

        def __init__(self, **keywords: Any) -> None:
            super().__init__(**keywords)
            self.seed_generator = keras.random.SeedGenerator(1337)

        def call(self, inputs: Any) -> Any:
            mean, log_variance = inputs
            noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
            return mean + ops.exp(0.5 * log_variance) * noise

    inputs = keras.Input((28, 28, 1))
    x = L.Conv2D(16, 3, activation="relu", strides=2, padding="same")(inputs)
    x = L.Dense(16, activation="relu")(L.Flatten()(x))
    mean, log_variance = L.Dense(2, name="z_mean")(x), L.Dense(2, name="z_log_var")(x)
    return keras.Model(inputs, [mean, log_variance, Sampling()([mean, log_variance])])


@people_model("Autoencoders and generators", f"{_EXAMPLES} vae", form="function", refused=True)
def vae_encoder_sampling() -> Any:
    """A variational encoder whose last layer draws random numbers."""
    return _vae_encoder()


@people_model("Autoencoders and generators", f"{_EXAMPLES} vae", form="function")
def vae_encoder_mean() -> Any:
    """The same encoder without its sampling layer, as it is used after training."""
    encoder = _vae_encoder()
    return keras.Model(encoder.inputs, encoder.outputs[:2])


@people_model("Autoencoders and generators", f"{_EXAMPLES} vae")
def vae_decoder() -> Any:
    """Digits from two numbers."""
    inputs = keras.Input((2,))
    x = L.Reshape((7, 7, 16))(L.Dense(7 * 7 * 16, activation="relu")(inputs))
    x = L.Conv2DTranspose(16, 3, activation="relu", strides=2, padding="same")(x)
    x = L.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(inputs, L.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x))


@people_model("Autoencoders and generators", f"{_EXAMPLES} dcgan_overriding_train_step")
def dcgan_generator() -> Any:
    """Faces from noise, a Sequential."""
    layers = [keras.Input((32,)), L.Dense(8 * 8 * 32), L.Reshape((8, 8, 32))]
    for filters in (32, 16):
        layers.append(L.Conv2DTranspose(filters, 4, strides=2, padding="same"))
        layers.append(L.LeakyReLU(negative_slope=0.2))
    layers.append(L.Conv2D(3, 5, padding="same", activation="sigmoid"))
    return keras.Sequential(layers, name="generator")


@people_model("Autoencoders and generators", f"{_EXAMPLES} dcgan_overriding_train_step", form="h5")
def dcgan_discriminator() -> Any:
    """Discriminator of generated and real faces."""
    layers = [keras.Input((32, 32, 3))]
    for filters in (16, 32):
        layers.append(L.Conv2D(filters, 4, strides=2, padding="same"))
        layers.append(L.LeakyReLU(negative_slope=0.2))
    layers += [L.Flatten(), L.Dropout(0.2), L.Dense(1, activation="sigmoid")]
    return keras.Sequential(layers, name="discriminator")


@people_model("Autoencoders and generators", f"{_EXAMPLES} conditional_gan")
def conditional_generator() -> Any:
    """A digit of a given class: noise and a one-hot label, two inputs."""
    noise, label = keras.Input((32,), name="noise"), keras.Input((10,), name="label")
    x = L.Reshape((7, 7, 8))(L.Dense(7 * 7 * 8)(L.Concatenate()([noise, label])))
    for _ in range(2):
        x = L.LeakyReLU(0.2)(L.Conv2DTranspose(16, 4, strides=2, padding="same")(x))
    return keras.Model([noise, label], L.Conv2D(1, 7, padding="same", activation="sigmoid")(x))


@people_model("Autoencoders and generators", f"{_EXAMPLES} cyclegan", form="function")
def cyclegan_generator() -> Any:
    """Horses to zebras: reflection padding and instance normalization."""

    class ReflectionPadding2D(keras.layers.Layer):
        def __init__(self, padding: int, **keywords: Any) -> None:
            super().__init__(**keywords)
            self.padding = padding

        def call(self, x: Any) -> Any:
            pair = [self.padding, self.padding]
            return ops.pad(x, [[0, 0], pair, pair, [0, 0]], mode="reflect")

    def normalized(x: Any) -> Any:
        return L.Activation("relu")(L.GroupNormalization(groups=-1)(x))

    inputs = keras.Input((32, 32, 3))
    x = normalized(L.Conv2D(8, 7, use_bias=False)(ReflectionPadding2D(3)(inputs)))
    x = normalized(L.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x))
    for _ in range(2):
        y = normalized(L.Conv2D(16, 3, use_bias=False)(ReflectionPadding2D(1)(x)))
        x = L.add([x, y])
    x = normalized(L.Conv2DTranspose(8, 3, strides=2, padding="same", use_bias=False)(x))
    x = L.Conv2D(3, 7)(ReflectionPadding2D(3)(x))
    return keras.Model(inputs, L.Activation("tanh")(x))


@people_model("Restoration", f"{_EXAMPLES} super_resolution_sub_pixel", shapes={"": (40, 40, 1)})
def espcn() -> Any:
    """Pictures of any size enlarged three times: ops.depth_to_space by reshapes."""
    x = inputs = keras.Input((None, None, 1))
    for filters in (32, 16):
        x = L.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, L.UpSampling2D(3)(L.Conv2D(9, 3, padding="same")(x)))


@people_model("Restoration", f"{_EXAMPLES} edsr", form="function", low=0, high=255)
def edsr() -> Any:
    """Residual super-resolution with TensorFlow's own depth_to_space in a Lambda."""
    import tensorflow as tf  # noqa: PLC0415

    inputs = keras.Input((24, 24, 3))
    x = first = L.Conv2D(16, 3, padding="same")(L.Rescaling(1 / 255)(inputs))
    for _ in range(2):
        y = L.Conv2D(16, 3, padding="same", activation="relu")(x)
        x = L.Add()([x, L.Conv2D(16, 3, padding="same")(y)])
    x = L.Add()([first, x])
    x = L.Lambda(lambda y: tf.nn.depth_to_space(y, 2))(L.Conv2D(64, 3, padding="same")(x))
    return keras.Model(inputs, L.Rescaling(255)(L.Conv2D(3, 3, padding="same")(x)))


@people_model("Restoration", f"{_EXAMPLES} zero_dce", low=0, high=1)
def zero_dce() -> Any:
    """Brightening of dark pictures: curves estimated and applied eight times by operations."""
    inputs = keras.Input((32, 32, 3))
    first = L.Conv2D(8, 3, activation="relu", padding="same")(inputs)
    second = L.Conv2D(8, 3, activation="relu", padding="same")(first)
    joined = L.Concatenate(axis=-1)([first, second])
    curves = L.Conv2D(24, 3, activation="tanh", padding="same")(joined)
    x = inputs
    for start in range(0, 24, 3):
        x = x + curves[:, :, :, start : start + 3] * (ops.square(x) - x)
    return keras.Model(inputs, x)


@people_model("Restoration", "after Zhang et al. 2017 (DnCNN)", form="h5")
def dncnn() -> Any:
    """The noise of a grey picture, removed by Subtract."""
    x = inputs = keras.Input((40, 40, 1))
    x = L.Conv2D(16, 3, padding="same", activation="relu")(x)
    for _ in range(3):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, padding="same", use_bias=False)(x)))
    return keras.Model(inputs, L.Subtract()([inputs, L.Conv2D(1, 3, padding="same")(x)]))


@people_model("Siamese", f"{_EXAMPLES} siamese_contrastive", form="function")
def siamese_contrastive() -> Any:
    """Two digits through one network; a Lambda computes the distance."""
    x = digit = keras.Input((28, 28, 1))
    for filters in (4, 16):
        x = L.AveragePooling2D(2)(L.Conv2D(filters, 5, activation="tanh")(x))
    embed = keras.Model(digit, L.Dense(10, activation="tanh")(L.Flatten()(x)))

    def distance(vectors: Any) -> Any:
        total = ops.sum(ops.square(vectors[0] - vectors[1]), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(total, keras.backend.epsilon()))

    left, right = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    merged = L.Lambda(distance, output_shape=(1,))([embed(left), embed(right)])
    return keras.Model(
        [left, right], L.Dense(1, activation="sigmoid")(L.BatchNormalization()(merged))
    )


@people_model("Siamese", f"{_EXAMPLES} siamese_network")
def triplet_embedding() -> Any:
    """Anchor, positive and negative: three inputs, one network, two distances."""
    embed = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            L.Conv2D(8, 3, strides=2, activation="relu"),
            L.Flatten(),
            L.Dense(16, activation="relu"),
            L.UnitNormalization(),
        ]
    )
    names = ("anchor", "positive", "negative")
    inputs = [keras.Input((32, 32, 3), name=name) for name in names]
    anchor, positive, negative = map(embed, inputs)
    return keras.Model(
        inputs,
        [ops.sum(ops.square(anchor - other), axis=-1) for other in (positive, negative)],
    )


@people_model("Siamese", "after Koch et al. 2015", form="h5")
def one_shot_dot() -> Any:
    """Cosine similarity of two pictures by a normalizing Dot."""
    embed = keras.Sequential(
        [keras.Input((28, 28, 1)), L.Conv2D(8, 5, activation="relu"), L.Flatten(), L.Dense(12)]
    )
    left, right = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    return keras.Model([left, right], L.Dot(axes=1, normalize=True)([embed(left), embed(right)]))


@people_model("Attention", f"{_EXAMPLES} image_classification_with_vision_transformer")
def small_vit() -> Any:
    """A Vision Transformer: patches by a convolution, MultiHeadAttention, GELU."""
    inputs = keras.Input((32, 32, 3))
    x = L.Reshape((16, 32))(L.Conv2D(32, 8, strides=8)(inputs))
    for _ in range(2):
        y = L.LayerNormalization(epsilon=1e-6)(x)
        x = L.Add()([L.MultiHeadAttention(num_heads=2, key_dim=16, dropout=0.1)(y, y), x])
        y = L.Dense(64, activation="gelu")(L.LayerNormalization(epsilon=1e-6)(x))
        x = L.Add()([L.Dense(32)(y), x])
    return keras.Model(inputs, L.Dense(10)(L.Flatten()(L.LayerNormalization()(x))))


@people_model("Attention", f"{_EXAMPLES} mlp_image_classification")
def patch_mixer() -> Any:
    """MLP-Mixer: extract_patches, transposes by Permute, Dense over patches."""
    inputs = keras.Input((32, 32, 3))
    x = L.Reshape((16, 192))(ops.image.extract_patches(inputs, 8))
    x = L.Dense(32)(x)
    for _ in range(2):
        y = L.Permute((2, 1))(L.LayerNormalization()(x))
        x = L.Add()([x, L.Permute((2, 1))(L.Dense(16)(L.Dense(16, activation="gelu")(y)))])
        y = L.Dense(32, activation="gelu")(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(32)(y)])
    return keras.Model(inputs, L.Dense(10)(L.GlobalAveragePooling1D()(x)))


@people_model("Attention", "after Sabour et al. 2017", form="function")
def capsules() -> Any:
    """Capsules: squashed vectors and two rounds of routing by agreement."""

    def squash(x: Any) -> Any:
        norm = ops.sum(ops.square(x), axis=-1, keepdims=True)
        return x * norm / (1 + norm) / ops.sqrt(norm + 1e-7)

    inputs = keras.Input((28, 28, 1))
    x = L.Conv2D(16, 9, strides=2, activation="relu")(inputs)
    x = squash(L.Reshape((-1, 8))(L.Conv2D(16, 3, strides=3)(x)))
    votes = L.Reshape((x.shape[1], 10, 4))(L.Dense(40, use_bias=False)(x))
    agreement = ops.zeros_like(votes[..., :1])
    for _ in range(2):
        coupling = ops.softmax(agreement, axis=2)
        digits = squash(ops.sum(coupling * votes, axis=1, keepdims=True))
        agreement = agreement + ops.sum(votes * digits, axis=-1, keepdims=True)
    return keras.Model(inputs, ops.sqrt(ops.sum(ops.square(digits[:, 0]), axis=-1)))


@people_model("Attention", f"{_EXAMPLES} pointnet", form="function")
def pointnet() -> Any:
    """Point clouds: 1-D convolutions and a learned 3x3 transform applied by Dot."""

    def features(x: Any, filters: int) -> Any:
        return L.Activation("relu")(L.BatchNormalization(momentum=0.0)(L.Conv1D(filters, 1)(x)))

    inputs = keras.Input((128, 3))
    x = L.GlobalMaxPooling1D()(features(features(inputs, 16), 32))
    transform = L.Reshape((3, 3))(L.Dense(9)(x))
    x = features(L.Dot(axes=(2, 1))([inputs, transform]), 32)
    x = L.Dropout(0.3)(L.Dense(16, activation="relu")(L.GlobalMaxPooling1D()(x)))
    return keras.Model(inputs, L.Dense(10, activation="softmax")(x))


def _video(*, pooled: bool) -> Any:
    x = inputs = keras.Input((8, 24, 24, 3))
    for filters in (8, 16):
        x = L.Conv3D(filters, (1, 3, 3), padding="same")(x)
        strides = 1 if pooled else 2
        x = L.Conv3D(filters, (3, 1, 1), strides=strides, padding="same")(x)
        x = L.ReLU()(L.BatchNormalization()(x))
        x = L.MaxPooling3D(2)(x) if pooled else x
    return keras.Model(inputs, L.Dense(10)(L.GlobalAveragePooling3D()(x)))


@people_model("Video", f"{_EXAMPLES} video_classification (3-D convolutions)")
def video_conv3d_pooled() -> Any:
    """(2+1)-D convolutions and MaxPooling3D, which becomes two TFLite poolings."""
    return _video(pooled=True)


@people_model("Video", f"{_EXAMPLES} video_classification (3-D convolutions)")
def video_conv3d() -> Any:
    """(2+1)-D convolutions with strides instead of pooling."""
    return _video(pooled=False)


@people_model("Attention", f"{_EXAMPLES} deep_q_network_breakout", low=0, high=255)
def deep_q_network() -> Any:
    """Atari player: four frames, rescaling without Lambda, actor and critic as two outputs."""
    inputs = keras.Input((84, 84, 4))
    x = L.Conv2D(16, 8, strides=4, activation="relu")(inputs / 255.0)
    x = L.Conv2D(16, 4, strides=2, activation="relu")(x)
    x = L.Dense(32, activation="relu")(L.Flatten()(x))
    action = L.Dense(4, activation="softmax")(x)
    return keras.Model(inputs, {"value": L.Dense(1)(x), "action": action})
