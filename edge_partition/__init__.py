"""Host side: Keras or TFLite model -> graph -> plan -> bundle -> deployment, and the client."""

from edge_partition.answers.answers import Answer
from edge_partition.client.pipeline import Pipeline, RequestError, Result

__all__ = ["Answer", "Pipeline", "RequestError", "Result"]
