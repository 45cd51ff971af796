from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from broker_config.serve import mosquitto
from broker_config.serve.broker_process import BrokerStartError
from broker_config.serve.start_broker import start_broker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def no_mosquitto(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mosquitto, "_BINARY_FOLDERS", ())


@pytest.fixture
def no_iotcore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iotcore", None)


@pytest.mark.usefixtures("mosquitto_installed")
def test_auto_is_mosquitto_if_installed() -> None:
    with start_broker(port=0) as broker:
        assert broker.kind == "mosquitto"


@pytest.mark.usefixtures("embedded_installed", "no_mosquitto")
def test_auto_is_the_embedded_broker_without_mosquitto() -> None:
    with start_broker(port=0) as broker:
        assert broker.kind == "embedded"


@pytest.mark.usefixtures("no_mosquitto", "no_iotcore")
@pytest.mark.parametrize("kind", ["auto", "mosquitto", "embedded"])
def test_an_error_about_a_missing_broker_names_the_package(kind: str) -> None:
    with pytest.raises(BrokerStartError, match="apt install mosquitto"):
        start_broker(port=0, kind=kind)  # type: ignore[arg-type]
