from __future__ import annotations

import inspect
import os
import re
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

#: Modules with fixtures for several folders.
pytest_plugins = ["broker_fixtures", "browsers"]

# No deadline, because tests do not time examples. In CI the examples are the same in every run, so
# that only a change of the code fails a run; elsewhere each run draws new examples.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

#: Fixtures that start a broker or a browser.
_BROKERS = frozenset(
    {"any_broker", "broker", "desk", "host", "mosquitto", "mosquitto_installed", "three_boards"}
)
#: Helpers that start a broker; a test that names one starts it without a fixture.
_STARTS_BROKER = re.compile(
    r"\b(Mosquitto|Embedded)Broker\(|\b(mosquitto_\w+|serving|start_broker)\("
)
_BROWSERS = frozenset({"browser", "page"})
_MODELS = frozenset({"small_mobilenet"})
_TENSORFLOW = re.compile(r"\b(keras|tensorflow|tf_keras|load_model|seed_weights|COMMAND|BIN)\b")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that start brokers or browsers or load TensorFlow, for ``-m "not broker"``."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        module = getattr(item, "module", None)
        starts_broker = fixtures & _BROKERS or _STARTS_BROKER.search(_source(item))
        if starts_broker or "/end_to_end/" in str(item.path):
            item.add_marker(pytest.mark.broker)
        if fixtures & _BROWSERS:
            item.add_marker(pytest.mark.browser)
        if fixtures & _MODELS or (module is not None and _uses_tensorflow(module)):
            item.add_marker(pytest.mark.tensorflow)


def _source(item: pytest.Item) -> str:
    """Return the source of the test's function; empty for items of plugins."""
    function = getattr(item, "function", None)
    return "" if function is None else _function_source(function)


@cache
def _function_source(function: Callable[..., object]) -> str:
    return inspect.getsource(function)


@cache
def _uses_tensorflow(module: ModuleType) -> bool:
    return bool(_TENSORFLOW.search(inspect.getsource(module)))
