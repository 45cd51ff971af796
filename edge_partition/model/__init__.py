"""Conversion of Keras models and SavedModels to TFLite; the only folder that imports TensorFlow."""
