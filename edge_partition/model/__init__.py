"""Keras and SavedModel to TFLite; the only folder that imports TensorFlow."""
