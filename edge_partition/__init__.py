"""The package for the host: model -> graph -> plan -> bundle -> deployment, and a client.

Each public name is imported at its first use, so ``import edge_partition`` takes only a few
milliseconds. TensorFlow is imported only to load a Keras model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_core.errors import EdgePartitionError
    from edge_partition.answers.answers import Answer
    from edge_partition.api import (
        deploy_bundle,
        load_fleet,
        load_model,
        plan_model,
        read_bundle,
        read_status,
        split_model,
        undeploy,
        verify_bundle,
    )
    from edge_partition.client.errors import RequestError
    from edge_partition.client.pipeline import Pipeline
    from edge_partition.client.result import Result
    from edge_partition.facts.model_facts import PictureOptions
    from edge_partition.pictures.describe_model import describe_model
    from edge_partition.planning.fleet import Device, Fleet, equal_fleet

__all__ = [
    "Answer",
    "Device",
    "EdgePartitionError",
    "Fleet",
    "PictureOptions",
    "Pipeline",
    "RequestError",
    "Result",
    "deploy_bundle",
    "describe_model",
    "equal_fleet",
    "load_fleet",
    "load_model",
    "plan_model",
    "read_bundle",
    "read_status",
    "split_model",
    "undeploy",
    "verify_bundle",
]

_MODULES = {
    "Answer": "edge_partition.answers.answers",
    "Device": "edge_partition.planning.fleet",
    "EdgePartitionError": "edge_core.errors",
    "Fleet": "edge_partition.planning.fleet",
    "PictureOptions": "edge_partition.facts.model_facts",
    "Pipeline": "edge_partition.client.pipeline",
    "RequestError": "edge_partition.client.errors",
    "Result": "edge_partition.client.result",
    "describe_model": "edge_partition.pictures.describe_model",
    "equal_fleet": "edge_partition.planning.fleet",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES.get(name, "edge_partition.api")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
