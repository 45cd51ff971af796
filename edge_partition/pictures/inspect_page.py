"""A model's document -> one HTML page to look at it, which needs no network."""

from __future__ import annotations

import html
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDENTATION = re.compile(r"^ +", re.MULTILINE)
_MARK = re.compile(r"\{\{(title|style|data|script)\}\}")


def inspect_page(document: dict[str, Any], split_command: Sequence[str]) -> str:
    """Return a self-contained page of a model: its graph, its cuts, its wrapped operations.

    Names may come from anyone's model: they stand in the page as JSON in which nothing can end the
    script element, and the page puts them into the document as text alone.

    Args:
        document: What :func:`~edge_partition.pictures.describe_model.describe_model` returns.
        split_command: The words of the command to which the page appends ``--cut NAME`` for each
            cut that is chosen in it.
    """
    static = files("edge_partition.pictures") / "static"
    data = json.dumps({**document, "split_command": list(split_command)}, separators=(",", ":"))
    parts = {
        "title": html.escape(document["name"]),
        # No literal in them spans lines: a tenth less to carry in every page.
        "style": _INDENTATION.sub("", (static / "inspect.css").read_text(encoding="utf-8")),
        # HTML knows no escapes within a script element, JSON does.
        "data": data.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026"),
        "script": _INDENTATION.sub("", (static / "inspect.js").read_text(encoding="utf-8")),
    }
    page = (static / "inspect.html").read_text(encoding="utf-8")
    # In one pass, so that a mark inside the data stays what it is.
    return _MARK.sub(lambda match: parts[match[1]], page)
