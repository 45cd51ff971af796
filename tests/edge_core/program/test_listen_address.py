"""The value of --listen, equal in every program."""

from __future__ import annotations

import pytest

from edge_core.program.listen_address import ListenAddress, ListenAddressError


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:8465", "127.0.0.1", 8465, True),
        ("8465", "127.0.0.1", 8465, True),
        ("localhost:0", "localhost", 0, True),
        ("[::1]:80", "::1", 80, True),
        ("0.0.0.0:8080", "0.0.0.0", 8080, False),  # noqa: S104
        ("[::]:8080", "::", 8080, False),
        ("192.0.2.7:8080", "192.0.2.7", 8080, False),
        ("hub:8080", "hub", 8080, False),
    ],
)
def test_addresses_are_read_as_written(text: str, host: str, port: int, loopback: bool) -> None:
    address = ListenAddress.parse(text)
    assert (address.host, address.port, address.is_loopback) == (host, port, loopback)


@pytest.mark.parametrize("text", ["", "hub", "hub:", "hub:http", "::1:80", "hub:65536", "hub:-1"])
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ListenAddressError, match="is not an address"):
        ListenAddress.parse(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("127.0.0.1:0", "127.0.0.1:80"),
        ("[::1]:0", "[::1]:80"),
        ("hub:0", "hub:80"),
        ("0.0.0.0:0", "127.0.0.1:80"),
        ("[::]:0", "[::1]:80"),
    ],
)
def test_an_address_is_written_as_a_client_here_reaches_it(text: str, written: str) -> None:
    assert ListenAddress.parse(text).with_port(80) == written


def test_an_address_without_a_host_opens_no_port_to_every_network() -> None:
    with pytest.raises(
        ListenAddressError, match=r"':8080' has no host; expected 127\.0\.0\.1:8080"
    ):
        ListenAddress.parse(":8080")
