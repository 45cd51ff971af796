"""Host side: Keras or TFLite model -> graph -> plan -> bundle -> deployment, and the client."""

from edge_partition.pipeline import Pipeline, RequestError, Result

__all__ = ["Pipeline", "RequestError", "Result"]
