"""One entry of the collection, and the decorator that turns a build function into an entry."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The form of the MODEL argument: a file of Keras 3 or Keras 2, a folder, a Python function, or a
#: package's own file.
FORMS = ("keras", "h5", "saved_model", "function", "file")
KERAS = "keras"
KERAS2 = "tf-keras==2.21.0"


class Lazy:
    """A module that is imported at its first use, so that listing the models is fast."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


@dataclass(frozen=True)
class PackageFile:
    """A file inside a package.

    Attributes:
        registry: ``pypi`` or ``npm``.
        package: The package's name in the registry.
        version: The release.
        member: The file's path in the wheel or archive; a folder's ends with ``/``.
        python: The Python version of the wheel, for packages with a wheel for each version.
        platform: The platform tag of the wheel, for packages with a wheel for each platform.
    """

    registry: str
    package: str
    version: str
    member: str
    python: str = "3.11"
    platform: str = "manylinux_2_28_x86_64"


@dataclass(frozen=True)
class PeopleModel:
    """A model, its source, and its command line for ``edge-partition``.

    Attributes:
        name: Unique name; lower case words joined by hyphens.
        kind: The heading in the document.
        source: The package and version, or the publication or tutorial that the model follows.
        what: The description in the document.
        form: One of :data:`FORMS`.
        build: Returns the model; None for a file of a package.
        file: The file of a package.
        shapes: Values of ``--input-shape``, by input name; ``""`` is for all inputs.
        ids: Exclusive upper bound of integer inputs from 0, by input name; ``""`` is for all.
        low: Smallest value of float inputs; None: unit normal.
        high: Largest value of float inputs.
        needs: Packages to install first.
        refused: Whether a refusal by ``edge-partition`` is the expected result.
        keras2: Whether ``tf_keras`` builds the model.
        exported: Input shape with which a subclassed model is exported.
        options: Further options of the command line.
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
        """The options after MODEL on the command line."""
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
    """Add a function without arguments as a model; its name and docstring describe the model."""

    def enter(build: Callable[[], Any]) -> Callable[[], Any]:
        name = build.__name__.replace("_", "-")
        what = (build.__doc__ or "").splitlines()[0].rstrip(".")
        add(PeopleModel(name, kind, source, what, form, build=build, **details))
        return build

    return enter
