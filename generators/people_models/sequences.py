"""Sound, text, series and tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from people_models.spec import Lazy, people_model

keras, L, ops = Lazy("keras"), Lazy("keras.layers"), Lazy("keras.ops")
_EXAMPLES = "after keras.io's example"


@people_model("Sound", f"{_EXAMPLES} speaker_recognition_using_cnn", form="h5")
def speaker_cnn() -> Any:
    """Speakers from 1-D convolutions with residuals."""
    x = inputs = keras.Input((800, 1))
    for filters in (8, 16):
        shortcut = L.Conv1D(filters, 1, padding="same")(x)
        x = L.Activation("relu")(L.Conv1D(filters, 3, padding="same")(x))
        x = L.Activation("relu")(L.Add()([L.Conv1D(filters, 3, padding="same")(x), shortcut]))
        x = L.MaxPooling1D(4, strides=4)(x)
    x = L.Flatten()(L.AveragePooling1D(3, strides=3)(x))
    return keras.Model(inputs, L.Dense(5, activation="softmax")(L.Dense(16)(x)))


@people_model("Sound", f"{_EXAMPLES} stft (audio classification)")
def spectrogram_cnn() -> Any:
    """A waveform in; Keras's STFTSpectrogram inside, then 2-D convolutions."""
    inputs = keras.Input((4000, 1))
    x = L.STFTSpectrogram(
        mode="log", frame_length=256, frame_step=128, fft_length=256, expand_dims=True
    )(inputs)
    x = L.MaxPooling2D()(L.Conv2D(8, 3, activation="relu")(x))
    return keras.Model(inputs, L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x)))


@people_model("Sound", "after Keras's layer MelSpectrogram")
def mel_spectrogram() -> Any:
    """A waveform in; MelSpectrogram inside."""
    inputs = keras.Input((8000,))
    x = L.MelSpectrogram(fft_length=512, sequence_stride=256, num_mel_bins=32)(inputs)
    x = L.Conv1D(8, 3, activation="relu")(L.Permute((2, 1))(x))
    return keras.Model(inputs, L.Dense(4)(L.GlobalMaxPooling1D()(x)))


@people_model("Sound", "after TensorFlow's tutorial simple audio recognition")
def simple_audio() -> Any:
    """Spoken commands: a spectrogram, resized and normalized inside."""
    normalize = L.Normalization()
    normalize.adapt(np.random.default_rng(0).normal(2, 3, (4, 124, 129, 1)).astype("float32"))
    layers = [keras.Input((124, 129, 1)), L.Resizing(32, 32), normalize]
    layers += [L.Conv2D(32, 3, activation="relu"), L.Conv2D(64, 3, activation="relu")]
    layers += [L.MaxPooling2D(), L.Flatten(), L.Dense(32, activation="relu"), L.Dense(8)]
    return keras.Sequential(layers)


@people_model("Sound", "after van den Oord et al. 2016 (WaveNet)")
def wavenet() -> Any:
    """Dilated causal convolutions, tanh and sigmoid gates, skip connections."""
    inputs = keras.Input((256, 1))
    x, skips = L.Conv1D(16, 2, padding="causal")(inputs), []
    for rate in (1, 2, 4, 8):
        tanh = L.Conv1D(16, 2, padding="causal", dilation_rate=rate, activation="tanh")(x)
        gate = L.Conv1D(16, 2, padding="causal", dilation_rate=rate, activation="sigmoid")(x)
        z = L.Conv1D(16, 1)(L.Multiply()([tanh, gate]))
        skips.append(z)
        x = L.Add()([x, z])
    x = L.Activation("relu")(L.Add()(skips))
    return keras.Model(inputs, L.Conv1D(32, 1, activation="softmax")(x))


@people_model("Sound", "after Zhang et al. 2017 (Hello Edge, DS-CNN)", form="h5")
def keyword_ds_cnn() -> Any:
    """Keywords from 49 frames of 10 MFCCs: depthwise separable convolutions."""
    x = inputs = keras.Input((49, 10, 1))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(32, (10, 4), strides=2, padding="same")(x)))
    for _ in range(3):
        x = L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x)))
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(32, 1)(x)))
    return keras.Model(inputs, L.Dense(12, activation="softmax")(L.GlobalAveragePooling2D()(x)))


@people_model("Text", f"{_EXAMPLES} bidirectional_lstm_imdb", ids={"": 500}, shapes={"": (24,)})
def imdb_bilstm() -> Any:
    """Film reviews of any length: Embedding, two bidirectional LSTMs."""
    inputs = keras.Input((None,), dtype="int32")
    x = L.Bidirectional(L.LSTM(16, return_sequences=True))(L.Embedding(500, 16)(inputs))
    return keras.Model(inputs, L.Dense(1, activation="sigmoid")(L.Bidirectional(L.LSTM(16))(x)))


@people_model(
    "Text", f"{_EXAMPLES} text_classification_with_transformer", ids={"": 200}, form="function"
)
def text_transformer() -> Any:
    """Film reviews: token and position embeddings, one custom transformer block."""

    class TokenAndPosition(keras.layers.Layer):
        def __init__(self, length: int, vocabulary: int, width: int) -> None:
            super().__init__()
            self.tokens = L.Embedding(vocabulary, width)
            self.positions = L.Embedding(length, width)

        def call(self, x: Any) -> Any:
            positions = ops.arange(start=0, stop=ops.shape(x)[-1], step=1)
            return self.tokens(x) + self.positions(positions)

    inputs = keras.Input((32,), dtype="int32")
    x = TokenAndPosition(32, 200, 16)(inputs)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(num_heads=2, key_dim=16)(x, x))
    x = L.LayerNormalization()(x + L.Dense(16)(L.Dense(32, activation="relu")(x)))
    x = L.Dense(20, activation="relu")(L.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, L.Dense(2, activation="softmax")(x))


@people_model("Text", "after Kim 2014", ids={"": 300}, form="h5")
def text_cnn() -> Any:
    """Sentences: convolutions of widths 3, 4 and 5 over embeddings, joined."""
    inputs = keras.Input((40,), dtype="int32")
    words = L.Embedding(300, 24)(inputs)
    branches = [
        L.GlobalMaxPooling1D()(L.Conv1D(12, width, activation="relu")(words)) for width in (3, 4, 5)
    ]
    return keras.Model(inputs, L.Dense(4, activation="softmax")(L.Concatenate()(branches)))


@people_model("Text", "after TensorFlow's tutorial basic text classification", ids={"": 250})
def bag_of_embeddings() -> Any:
    """A Sequential of Embedding, GlobalAveragePooling1D and Dense, with a mask."""
    return keras.Sequential(
        [
            keras.Input((30,), dtype="int64"),
            L.Embedding(250, 16, mask_zero=True),
            L.GlobalAveragePooling1D(),
            L.Dense(1, activation="sigmoid"),
        ]
    )


@people_model("Text", "after TensorFlow's tutorial basic text classification", refused=True)
def text_vectorization_inside() -> Any:
    """Strings in: a TextVectorization layer inside, which no board's runtime has."""
    vectorize = L.TextVectorization(max_tokens=50, output_sequence_length=10)
    vectorize.adapt(["the quick brown fox", "jumps over the lazy dog"])
    inputs = keras.Input((1,), dtype="string")
    x = L.GlobalAveragePooling1D()(L.Embedding(50, 8)(vectorize(inputs)))
    return keras.Model(inputs, L.Dense(1)(x))


@people_model(
    "Text", f"{_EXAMPLES} lstm_seq2seq", shapes={"letters_in": (12, 30), "letters_out": (12, 30)}
)
def lstm_seq2seq() -> Any:
    """Translation by characters: an encoder's states start the decoder; two open inputs."""
    source = keras.Input((None, 30), name="letters_in")
    target = keras.Input((None, 30), name="letters_out")
    _, *states = L.LSTM(24, return_state=True)(source)
    x, *_ = L.LSTM(24, return_sequences=True, return_state=True)(target, initial_state=states)
    return keras.Model([source, target], L.Dense(30, activation="softmax")(x))


@people_model("Text", f"{_EXAMPLES} captcha_ocr", low=0, high=1)
def captcha_crnn() -> Any:
    """Letters in a picture: convolutions, then bidirectional LSTMs along the picture's width."""
    x = inputs = keras.Input((80, 24, 1))
    for filters in (8, 16):
        x = L.MaxPooling2D()(L.Conv2D(filters, 3, activation="relu", padding="same")(x))
    x = L.Dense(16, activation="relu")(L.Reshape((20, 6 * 16))(x))
    x = L.Bidirectional(L.LSTM(16, return_sequences=True, dropout=0.25))(x)
    return keras.Model(inputs, L.Dense(21, activation="softmax")(x))


@people_model("Text", f"{_EXAMPLES} attention over LSTM (additive)", ids={"": 120})
def attention_gru() -> Any:
    """GRU states weighted by AdditiveAttention."""
    inputs = keras.Input((16,), dtype="int32")
    states = L.GRU(16, return_sequences=True)(L.Embedding(120, 16)(inputs))
    x = L.GlobalAveragePooling1D()(L.AdditiveAttention()([states, states]))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(x))


@people_model("Recurrent", f"{_EXAMPLES} conv_lstm")
def conv_lstm() -> Any:
    """The next frame of a video: ConvLSTM2D and Conv3D."""
    inputs = keras.Input((5, 16, 16, 1))
    x = L.ConvLSTM2D(4, 5, padding="same", return_sequences=True, activation="relu")(inputs)
    x = L.BatchNormalization()(x)
    x = L.ConvLSTM2D(4, 3, padding="same", return_sequences=True, activation="relu")(x)
    return keras.Model(inputs, L.Conv3D(1, 3, activation="sigmoid", padding="same")(x))


@people_model("Recurrent", f"{_EXAMPLES} timeseries_weather_forecasting", form="h5")
def weather_lstm() -> Any:
    """The weather in 12 hours from 20 measured ones."""
    inputs = keras.Input((20, 7))
    return keras.Model(inputs, L.Dense(1)(L.LSTM(32)(inputs)))


@people_model("Recurrent", "after Keras's guide to RNNs")
def stateful_gru() -> Any:
    """A stateful GRU: its state is a variable that each call assigns."""
    inputs = keras.Input(batch_shape=(1, 6, 4))
    return keras.Model(inputs, L.Dense(3)(L.GRU(12, stateful=True)(inputs)))


@people_model("Recurrent", "after Keras's guide to RNNs", form="h5")
def stacked_rnn_cells() -> Any:
    """An RNN layer over three stacked LSTM cells, backwards in time."""
    inputs = keras.Input((9, 6))
    cells = [L.LSTMCell(8) for _ in range(3)]
    x = L.RNN(L.StackedRNNCells(cells), go_backwards=True)(inputs)
    return keras.Model(inputs, L.Dense(2)(x))


@people_model("Recurrent", "after Donahue et al. 2015 (LRCN)")
def frames_cnn_lstm() -> Any:
    """A CNN on each frame by TimeDistributed, an LSTM over frames."""
    frame = keras.Sequential(
        [keras.Input((24, 24, 3)), L.Conv2D(8, 3, strides=2, activation="relu"),
         L.GlobalAveragePooling2D()]
    )  # fmt: skip
    inputs = keras.Input((6, 24, 24, 3))
    return keras.Model(inputs, L.Dense(5)(L.LSTM(16)(L.TimeDistributed(frame)(inputs))))


@people_model("Recurrent", f"{_EXAMPLES} timeseries_anomaly_detection")
def anomaly_autoencoder() -> Any:
    """Anomalies in series: strided 1-D convolutions and Conv1DTranspose."""
    details = {"kernel_size": 7, "padding": "same", "strides": 2, "activation": "relu"}
    layers = [keras.Input((64, 1)), *(L.Conv1D(filters, **details) for filters in (16, 8))]
    layers += [L.Conv1DTranspose(filters, **details) for filters in (8, 16)]
    layers.append(L.Conv1DTranspose(1, 7, padding="same"))
    return keras.Sequential(layers)


def _series_transformer() -> Any:
    x = inputs = keras.Input((60, 1))
    for _ in range(2):
        y = L.MultiHeadAttention(key_dim=16, num_heads=2, dropout=0.25)(x, x)
        x = L.LayerNormalization(epsilon=1e-6)(y) + x
        y = L.Conv1D(1, 1)(L.Conv1D(4, 1, activation="relu")(x))
        x = L.LayerNormalization(epsilon=1e-6)(y) + x
    x = L.GlobalAveragePooling1D(data_format="channels_last")(x)
    return keras.Model(inputs, L.Dense(2, activation="softmax")(x))


@people_model("Recurrent", f"{_EXAMPLES} timeseries_classification_transformer")
def series_transformer() -> Any:
    """Engine noise: attention over a series."""
    return _series_transformer()


@people_model(
    "Recurrent",
    f"{_EXAMPLES} timeseries_classification_transformer",
    form="h5",
    refused=True,
)
def series_transformer_h5() -> Any:
    """The same model saved as .h5, which Keras 3 writes and cannot read again."""
    return _series_transformer()


@people_model("Tables", "after Cheng et al. 2016 (Wide & Deep)")
def wide_and_deep() -> Any:
    """A linear and a deep part over two inputs."""
    wide, deep = keras.Input((12,), name="wide"), keras.Input((20,), name="deep")
    x = L.Dense(16, activation="relu")(L.BatchNormalization()(deep))
    x = L.Concatenate()([wide, L.Dense(8, activation="relu")(x)])
    return keras.Model([wide, deep], L.Dense(1, activation="sigmoid")(x))


@people_model(
    "Tables", f"{_EXAMPLES} collaborative_filtering_for_movielens", ids={"user": 60, "movie": 90}
)
def recommender() -> Any:
    """Users and films: two embeddings and biases, a Dot, a sigmoid."""
    user = keras.Input((1,), dtype="int32", name="user")
    movie = keras.Input((1,), dtype="int32", name="movie")
    vectors = [L.Flatten()(L.Embedding(60, 12)(user)), L.Flatten()(L.Embedding(90, 12)(movie))]
    biases = [L.Flatten()(L.Embedding(60, 1)(user)), L.Flatten()(L.Embedding(90, 1)(movie))]
    total = L.Add()([L.Dot(axes=1)(vectors), *biases])
    return keras.Model([user, movie], L.Activation("sigmoid")(total))


@people_model("Tables", f"{_EXAMPLES} structured_data_classification", ids={"": 5})
def categories_and_numbers() -> Any:
    """Heart disease: CategoryEncoding of integers beside normalized numbers."""
    kind = keras.Input((1,), dtype="int32", name="kind")
    numbers = keras.Input((6,), name="numbers")
    normalize = L.Normalization()
    normalize.adapt(np.random.default_rng(0).normal(3, 2, (32, 6)).astype("float32"))
    encoded = L.CategoryEncoding(num_tokens=5, output_mode="one_hot")(kind)
    x = L.Dense(16, activation="relu")(L.Concatenate()([encoded, normalize(numbers)]))
    return keras.Model([kind, numbers], L.Dense(1, activation="sigmoid")(x))


@people_model(
    "Tables",
    "after Keras's guide to the functional API",
    ids={"": 100},
    shapes={"title": (8,), "body": (20,)},
)
def ticket_router() -> Any:
    """Support tickets: three inputs, two of open length, and two outputs."""
    title = keras.Input((None,), dtype="int32", name="title")
    body = keras.Input((None,), dtype="int32", name="body")
    tags = keras.Input((12,), name="tags")
    x = [L.LSTM(12)(L.Embedding(100, 12)(title)), L.LSTM(8)(L.Embedding(100, 12)(body)), tags]
    x = L.Concatenate()(x)
    return keras.Model(
        [title, body, tags], [L.Dense(1, name="priority")(x), L.Dense(4, name="department")(x)]
    )


@people_model("Tables", "after Kipf & Welling 2017", form="function")
def graph_convolution() -> Any:
    """A graph network: features and an adjacency matrix, joined by matmul."""
    features, adjacency = keras.Input((20, 8), name="features"), keras.Input((20, 20), name="adj")
    x = features
    for width in (16, 4):
        x = ops.relu(ops.matmul(adjacency, L.Dense(width, use_bias=False)(x)))
    return keras.Model([features, adjacency], ops.softmax(x, axis=-1))


@people_model("Tables", f"{_EXAMPLES} nerf", form="h5")
def nerf_mlp() -> Any:
    """Points of a scene: an MLP whose input is concatenated again half way."""
    x = inputs = keras.Input((40, 33))
    for layer in range(6):
        x = L.Dense(32, activation="relu")(x)
        if layer == 3:  # noqa: PLR2004
            x = L.concatenate([x, inputs], axis=-1)
    return keras.Model(inputs, L.Dense(4)(x))


@people_model("Precision and names", "after Keras's guide to mixed precision")
def mixed_float16() -> Any:
    """Trained with the policy mixed_float16."""
    inputs = keras.Input((32, 32, 3))
    x = L.Conv2D(8, 3, activation="relu", dtype="mixed_float16")(inputs)
    x = L.Dense(16, dtype="mixed_float16")(L.GlobalAveragePooling2D(dtype="mixed_float16")(x))
    return keras.Model(inputs, L.Dense(5, activation="softmax", dtype="float32")(x))


@people_model("Precision and names", "after Keras's guide to mixed precision", form="h5")
def float64_model() -> Any:
    """Every layer in float64."""
    inputs = keras.Input((10,), dtype="float64")
    x = L.Dense(16, activation="tanh", dtype="float64")(inputs)
    return keras.Model(inputs, L.Dense(2, dtype="float64")(x))


@people_model("Precision and names", "after Keras's guide to quantization", refused=True)
def keras_int8() -> Any:
    """Quantized by Keras's own quantize("int8")."""
    inputs = keras.Input((16,))
    model = keras.Model(inputs, L.Dense(3)(L.Dense(64, activation="relu")(inputs)))
    model.quantize("int8")
    return model


@people_model("Precision and names", "after Keras's guide to LoRA", ids={"": 60})
def lora_embedding() -> Any:
    """Embedding and Dense fine-tuned with enable_lora."""
    inputs = keras.Input((12,), dtype="int32")
    embed, dense = L.Embedding(60, 16), L.Dense(16, activation="relu")
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(dense(embed(inputs)))))
    embed.enable_lora(4)
    dense.enable_lora(4)
    return model


@people_model("Precision and names", "after bug reports", form="h5")
def names_with_spaces() -> Any:
    """Inputs and layers with spaces, umlauts and brackets in their names."""
    length, width = keras.Input((4,), name="Länge (cm)"), keras.Input((4,), name="Breite (mm)")
    x = L.Concatenate(name="beide zusammen")([length, width])
    return keras.Model([length, width], L.Dense(2, name="Größe #1")(L.Dense(8)(x)))
