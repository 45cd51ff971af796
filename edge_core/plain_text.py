"""Text from a network or a file, made fit for a terminal."""

from __future__ import annotations


def plain_text(text: str) -> str:
    r"""Return ``text`` with what a terminal would obey, or can't show, written out: ``\x1b``.

    Labels and names come from whoever wrote the model: control characters and marks that turn the
    direction of writing must not drive a person's terminal. Umlauts and other scripts stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
