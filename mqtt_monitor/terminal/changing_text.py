"""A text widget whose text is set often but rarely changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Static

if TYPE_CHECKING:
    from rich.text import Text


class ChangingText(Static):
    """A text widget that draws its text only if the text or its styles have changed."""

    def __init__(self, widget_id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=widget_id, classes=classes)
        self._shown: Text | None = None

    def show(self, text: Text) -> None:
        """Replace the shown text with ``text``."""
        before = self._shown
        if before is None or (text.plain, text.spans) != (before.plain, before.spans):
            self._shown = text
            self.update(text)
