from __future__ import annotations

import os

from hypothesis import settings

#: Fixtures that several folders use.
pytest_plugins = ["broker_fixtures"]

# Timings are no part of any test. In CI the examples are the same every time, so that a red run
# speaks of the change and not of the draw; on a desk new ones are drawn with every run.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
