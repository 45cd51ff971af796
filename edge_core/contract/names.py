"""The form of the names that people give to boards, deployments and clients."""

from __future__ import annotations

import re

#: A name is one MQTT topic level and one file name: no ``/``, ``+`` or ``#``, no leading dot.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
#: The description of :data:`NAME_PATTERN` in an error.
NAME_EXPECTED = "a letter or digit, then at most 127 letters, digits, '.', '_' or '-'"
