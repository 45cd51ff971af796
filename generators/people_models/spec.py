"""One entry of the collection, and the decorator that makes one of a function that builds it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: How a model reaches ``edge-partition``: a file of Keras 3 or Keras 2, a folder, a Python
#: function, or a file as its package ships it.
FORMS = ("keras", "h5", "saved_model", "function", "file")
KERAS = "keras"
KERAS2 = "tf-keras==2.21.0"


class Lazy:
    """A module that is imported when something of it is used, so that listing takes no seconds."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


@dataclass(frozen=True)
class PackageFile:
    """A file inside a package.

    Attributes:
        registry: ``pypi`` or ``npm``.
        package: Its name there.
        version: The release.
        member: The file's path in the wheel or archive; a folder's ends with ``/``.
        python: The Python whose wheel it is, where there is one for each.
        platform: Likewise.
    """

    registry: str
    package: str
    version: str
    member: str
    python: str = "3.11"
    platform: str = "manylinux_2_28_x86_64"


@dataclass(frozen=True)
class PeopleModel:
    """A model, where it is from and how it is handed to ``edge-partition``.

    Attributes:
        name: Unique; lower case words joined by hyphens.
        kind: The heading it stands under.
        source: The package and version it is from, or the publication it is built after.
        what: One sentence.
        form: One of :data:`FORMS`.
        build: Returns the model; None for a file of a package.
        file: The file of a package.
        shapes: By input name, ``""`` for all: what ``--input-shape`` says.
        ids: The integers that go in run from 0 to this, exclusive; by input name or ``""``.
        low: The least value of float inputs; None: unit normal.
        high: The largest.
        needs: Packages to install first.
        refused: That ``edge-partition`` refuses it is right, and its sentence can be acted on.
        keras2: ``tf_keras`` built it.
        exported: The input's shape that a subclassed model is exported with.
        options: What else the command line needs to be told.
    """

    name: str
    kind: str
    source: str
    what: str
    form: str
    build: Callable[[], Any] | None = None
    file: PackageFile | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ids: Mapping[str, int] = field(default_factory=dict)
    low: float | None = None
    high: float = 1.0
    needs: tuple[str, ...] = ()
    refused: bool = False
    keras2: bool = False
    exported: tuple[int | None, ...] | None = None
    options: tuple[str, ...] = ()

    @property
    def command_options(self) -> list[str]:
        """What follows MODEL on the command line."""
        words = list(self.options)
        for name, shape in self.shapes.items():
            sizes = ",".join(map(str, shape))
            words += ["--input-shape", f"{name}={sizes}" if name else sizes]
        return words


COLLECTION: dict[str, PeopleModel] = {}


def add(model: PeopleModel) -> None:
    """Put a model into the collection."""
    if model.name in COLLECTION:
        raise ValueError(f"{model.name} is in the collection twice")
    COLLECTION[model.name] = model


def people_model(
    kind: str, source: str, *, form: str = "keras", **details: Any
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Make an entry of a function without arguments: its name and docstring are the model's."""

    def enter(build: Callable[[], Any]) -> Callable[[], Any]:
        name = build.__name__.replace("_", "-")
        what = (build.__doc__ or "").splitlines()[0].rstrip(".")
        add(PeopleModel(name, kind, source, what, form, build=build, **details))
        return build

    return enter
