"""The checkout that the tests run in."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
