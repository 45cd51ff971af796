"""A model's document -> one HTML page that shows the model without a network."""

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

    Names of an untrusted model can't inject markup: the page holds them as JSON that can't end the
    script element, and inserts them as text only.

    Args:
        document: Return value of :func:`~edge_partition.pictures.describe_model.describe_model`.
        split_command: Words of the command to which the page appends ``--cut NAME`` for each
            cut that a user chooses.
    """
    static = files("edge_partition.pictures") / "static"
    data = json.dumps({**document, "split_command": list(split_command)}, separators=(",", ":"))
    parts = {
        "title": html.escape(document["name"]),
        # Indentation is a tenth of each file; no literal spans lines, so indentation can go.
        "style": _INDENTATION.sub("", (static / "inspect.css").read_text(encoding="utf-8")),
        # A script element has no HTML escapes, so JSON's are used.
        "data": data.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026"),
        "script": _INDENTATION.sub("", (static / "inspect.js").read_text(encoding="utf-8")),
    }
    page = (static / "inspect.html").read_text(encoding="utf-8")
    # One pass, so a mark inside the data is not replaced.
    return _MARK.sub(lambda match: parts[match[1]], page)
