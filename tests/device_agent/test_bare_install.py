"""The agent in an environment with only a board's packages, for each TFLite runtime."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agent_host import start_agent, wait_for
from checkout import CHECKOUT
from dense_models import make_pipeline

from edge_core.contract.topics import ONLINE

if TYPE_CHECKING:
    from pathlib import Path

    from agent_host import Host

    from broker_config.serve.mosquitto import MosquittoBroker

_CHECKOUT = CHECKOUT
_RUNTIMES = {
    "ai-edge-litert": ["ai-edge-litert>=2.1", "numpy>=1.26"],
    "tflite-runtime": ["tflite-runtime==2.14.0", "numpy>=1.26,<2"],
}
#: The dependencies of every board; the runtimes and numpy differ.
_COMMON = [
    item
    for item in tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    if ";" not in item
]
_PIP = [sys.executable, "-m", "pip"]
_QUIETLY = ["--quiet", "--disable-pip-version-check"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the package, built once for all runtimes."""
    folder = tmp_path_factory.mktemp("wheel")
    source = _copy_source(folder / "source")
    subprocess.run(
        [*_PIP, "wheel", *_QUIETLY, "--no-deps", "--wheel-dir", str(folder), str(source)],
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(params=sorted(_RUNTIMES))
def bare_python(request: pytest.FixtureRequest, wheel: Path) -> tuple[str, str]:
    """The name of a runtime, and a Python that has only this runtime and the agent's dependencies.

    The environment has no pip: the pip of this Python installs into it. The environment stays in
    the checkout until pyproject.toml changes. The package itself is installed each time.
    """
    runtime = request.param
    if runtime == "tflite-runtime" and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14 has no wheel for Python 3.12 and later")
    if runtime == "ai-edge-litert" and platform.machine() == "armv7l":
        pytest.skip("ai-edge-litert has no wheel for armv7l")
    key = hashlib.sha256((_CHECKOUT / "pyproject.toml").read_bytes()).hexdigest()[:12]
    folder = _CHECKOUT / f".venv-bare-{runtime}-{key}"
    python = str(folder / "bin" / "python")
    ready = folder / "ready"
    install = [*_PIP, "--python", python, "install", *_QUIETLY]
    if not ready.exists():
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True
        )
        subprocess.run([*install, *_RUNTIMES[runtime], *_COMMON], check=True)
        ready.touch()
    subprocess.run([*install, "--no-deps", "--force-reinstall", str(wheel)], check=True)
    return runtime, python


def _copy_source(folder: Path) -> Path:
    """Copy the packaged files, because a build leaves files in its folder."""
    folder.mkdir()
    for found in _CHECKOUT.iterdir():
        if (found / "py.typed").exists():
            shutil.copytree(found, folder / found.name)
        elif found.name in {"pyproject.toml", "README.md", "LICENSE"}:
            shutil.copy(found, folder)
    return folder


def test_the_agent_serves_without_tensorflow_anywhere(
    broker: MosquittoBroker, host: Host, name: str, bare_python: tuple[str, str], tmp_path: Path
) -> None:
    runtime, python = bare_python
    looked_for = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.find_spec('tensorflow'))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert looked_for.stdout.strip() == "None"
    agent = start_agent(broker.url, name, tmp_path / name, python=python)
    try:
        host.wait_for_availability(name, ONLINE)
        wait_for(lambda: runtime.encode() in (host.retained(host.topics.profile(name)) or b""))
        pipeline = make_pipeline(name, [[name]])
        host.deploy(pipeline)
        for seed in (1, 2):
            before, *_, after = pipeline.tensors(seed)
            message = host.ask(name, before.tobytes())
            assert "error" not in message.user, bytes(message.payload)
            found = np.frombuffer(message.payload, np.float32).reshape(after.shape)
            np.testing.assert_allclose(found, after, rtol=1e-4, atol=1e-5)
    finally:
        assert agent.stop() == 0
