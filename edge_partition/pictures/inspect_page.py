"""Make an HTML page that shows a model. The page works offline."""

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
    """Return an HTML page that shows a model's graph, cuts and wrapped operations.

    The page loads no other file. A name in an untrusted model can't inject markup: in the page's
    JSON, ``<``, ``>`` and ``&`` are escaped, and the page's script shows names as text only.

    Args:
        document: Return value of :func:`~edge_partition.pictures.describe_model.describe_model`.
        split_command: Words of the command to which the page appends ``--cut NAME`` for each
            cut that a user chooses.
    """
    static = files("edge_partition.pictures") / "static"
    data = json.dumps({**document, "split_command": list(split_command)}, separators=(",", ":"))
    parts = {
        "title": html.escape(document["name"]),
        # Indentation is a tenth of each file. It can be removed, because no literal spans lines.
        "style": _INDENTATION.sub("", (static / "inspect.css").read_text(encoding="utf-8")),
        # HTML escapes have no effect inside a script element, so JSON escapes are used.
        "data": data.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026"),
        "script": _INDENTATION.sub("", (static / "inspect.js").read_text(encoding="utf-8")),
    }
    page = (static / "inspect.html").read_text(encoding="utf-8")
    # All marks are replaced in one pass, so a mark inside the data stays as it is.
    return _MARK.sub(lambda match: parts[match[1]], page)
