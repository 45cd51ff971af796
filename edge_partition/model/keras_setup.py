"""Settle Keras's backend and TensorFlow's chatter; import this before either of them.

Conversion to TFLite goes through TensorFlow, so whatever backend a person's environment asks for,
Keras must load with TensorFlow's. Both libraries read these variables once, on import.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# oneDNN reorders floating-point sums, and says so in several lines on every start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
