"""Host side: Keras or TFLite model -> graph -> plan -> bundle -> deployment, and the client."""
