from __future__ import annotations

import inspect
import os
import re
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
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
_BROWSERS = frozenset({"browser", "page"})
_TENSORFLOW = re.compile(r"\b(keras|tensorflow|tf_keras|load_model|seed_weights|COMMAND|BIN)\b")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that start brokers or browsers or load TensorFlow, for ``-m "not broker"``."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        module = getattr(item, "module", None)
        if fixtures & _BROKERS or "/end_to_end/" in str(item.path):
            item.add_marker(pytest.mark.broker)
        if fixtures & _BROWSERS:
            item.add_marker(pytest.mark.browser)
        if module is not None and _uses_tensorflow(module):
            item.add_marker(pytest.mark.tensorflow)


@cache
def _uses_tensorflow(module: ModuleType) -> bool:
    return bool(_TENSORFLOW.search(inspect.getsource(module)))
