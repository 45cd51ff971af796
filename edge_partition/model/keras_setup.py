"""Set Keras's backend and TensorFlow's log level. Import this module before these libraries.

The conversion to TFLite needs TensorFlow, so Keras must use the TensorFlow backend, even if the
user's environment names another backend. Both libraries read their environment variables only once,
when they are imported.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# oneDNN reorders floating-point sums, and prints several lines on every start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
