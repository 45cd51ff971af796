"""The extra of edge-partition that installs a missing package."""

from __future__ import annotations

import re

_DISTRIBUTION = "edge-partition"
#: Packages, by module, where the package and the module have different names.
_PACKAGES = {
    "PIL": "pillow",
    "tensorflow": "tensorflow-cpu",
    "tf_keras": "tf-keras",
    "prometheus_client": "prometheus-client",
    "opentelemetry": "opentelemetry-sdk",
}


def find_extra(module: str, prefer: str | None = None) -> str | None:
    """Return the extra that installs ``module``; None: no extra installs the module.

    Args:
        module: The name of a module that could not be imported.
        prefer: The extra to name if several extras install the module.
    """
    # Imported here so that programs with no missing package start sooner.
    from importlib.metadata import PackageNotFoundError, requires  # noqa: PLC0415

    top = module.partition(".")[0]
    package = _PACKAGES.get(top, top)
    try:
        requirements = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return None
    found: list[str] = []
    for requirement in requirements:
        name, _, marker = requirement.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if extra and re.match(r"[\w.-]+", name.strip())[0].lower() == package.lower():  # type: ignore[index]
            found.append(extra[1])
    return prefer if prefer in found else next(iter(found), None)


def explain_missing(error: ModuleNotFoundError, prefer: str | None = None) -> str | None:
    """Return a line that names the extra to install; None: no extra installs the module.

    Args:
        error: The error of the failed import.
        prefer: The extra to name if several extras install the module.
    """
    extra = find_extra(error.name or "", prefer)
    if extra is None:
        return None
    module = (error.name or "").partition(".")[0]
    package = _PACKAGES.get(module, module)
    return (
        f"the package {package} is not installed; install the extra {extra}: "
        f"pip install '{_DISTRIBUTION}[{extra}]'"
    )
