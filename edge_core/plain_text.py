"""Text from a network or a file, made safe for a terminal."""

from __future__ import annotations


def plain_text(text: str) -> str:
    r"""Return ``text`` with an escape such as ``\x1b`` in place of each unprintable character.

    Labels and names come from the author of a model. Control characters, and marks that reverse the
    direction of writing, must not reach the user's terminal. Letters of all scripts stay as they
    are.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
