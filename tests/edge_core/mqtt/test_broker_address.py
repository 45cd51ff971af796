from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_core.mqtt.broker_address import BrokerAddress, BrokerAddressError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "shown"),
    [
        ("mqtt://hub", "hub", 1883, False, "mqtt://hub:1883"),
        ("mqtts://hub", "hub", 8883, True, "mqtts://hub:8883"),
        ("mqtt://hub:1884/", "hub", 1884, False, "mqtt://hub:1884"),
        ("mqtts://10.0.0.7:443", "10.0.0.7", 443, True, "mqtts://10.0.0.7:443"),
        ("mqtt://[::1]", "::1", 1883, False, "mqtt://[::1]:1883"),
        ("mqtts://[fe80::1]:9", "fe80::1", 9, True, "mqtts://[fe80::1]:9"),
        ("mqtt://me@hub:7", "hub", 7, False, "mqtt://hub:7"),
    ],
)
def test_an_address_is_read_and_shown(
    url: str, host: str, port: int, tls: bool, shown: str
) -> None:
    address = BrokerAddress.parse(url, environ={})
    assert (address.host, address.port, address.tls, address.url) == (host, port, tls, shown)
    assert BrokerAddress.parse(address.url, environ={}).url == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hub",
        "hub:1883",
        "http://hub",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://hub:port",
        "mqtt://hub:99999",
        "mqtt://hub/topic",
        "mqtt://hub?x=1",
        "mqtt://hub#x",
        "mqtt://[::1",
    ],
)
def test_an_invalid_url_is_refused_with_the_expected_form(url: str) -> None:
    with pytest.raises(BrokerAddressError, match="expected mqtt://HOST:PORT") as caught:
        BrokerAddress.parse(url, environ={})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://me:hush@hub",
        "mqtt://me:hush@hub:99999",
        "mqtt://me:hush@hub/topic",
        "http://me:hush@hub",
        "mqtt://me:hush@[::1",
    ],
)
def test_a_password_in_the_url_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(BrokerAddressError) as caught:
        BrokerAddress.parse(url, environ={})
    assert "hush" not in str(caught.value)


def test_a_password_comes_from_a_file_or_the_environment_and_is_never_shown(
    tmp_path: Path,
) -> None:
    file = tmp_path / "password"
    file.write_text("from file \n")
    from_file = BrokerAddress.parse("mqtt://me@hub", password_file=str(file), environ={})
    assert (from_file.username, from_file.password) == ("me", "from file ")
    assert "from file" not in repr(from_file) + from_file.url

    environ = {"EDGE_PARTITION_USERNAME": "they", "EDGE_PARTITION_PASSWORD": "hush"}
    from_environ = BrokerAddress.parse("mqtt://hub", environ=environ)
    assert (from_environ.username, from_environ.password) == ("they", "hush")
    # The URL overrides the environment; a file overrides the variable with the password.
    environ["EDGE_PARTITION_PASSWORD_FILE"] = str(file)
    both = BrokerAddress.parse("mqtt://me@hub", environ=environ)
    assert (both.username, both.password) == ("me", "from file ")


def test_an_error_about_a_password_file_names_the_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(BrokerAddressError, match=str(missing)):
        BrokerAddress.parse("mqtt://hub", password_file=str(missing), environ={})
    missing.write_bytes(b"\xff\xfe")
    with pytest.raises(BrokerAddressError, match="password file"):
        BrokerAddress.parse("mqtt://hub", password_file=str(missing), environ={})
