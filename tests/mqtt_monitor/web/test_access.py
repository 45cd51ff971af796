"""Access to the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_core.program.listen_address import ListenAddress
from mqtt_monitor.web.access import (
    SESSION_S,
    TOKEN_VARIABLE,
    Access,
    WebAccessError,
    find_access,
)

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "correct horse battery"  # noqa: S105
NOW_S = 1_764_000_000.0


def find(listen: str, file: Path | None = None, **environ: str) -> Access:
    return find_access(
        ListenAddress.parse(listen), token_file=file, host_names=("Hub.Example",), environ=environ
    )


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.0.2.7:8080", "hub:8080"])
def test_other_addresses_than_loopback_need_a_password(listen: str, tmp_path: Path) -> None:
    with pytest.raises(WebAccessError, match="needs a password"):
        find(listen)
    with pytest.raises(WebAccessError, match="at least 12"):
        find(listen, **{TOKEN_VARIABLE: "short"})
    assert find(listen, **{TOKEN_VARIABLE: SECRET}).token == SECRET
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    assert find(listen, file).token == SECRET
    file.write_text("\n")
    with pytest.raises(WebAccessError, match="the first line is empty"):
        find(listen, file)
    with pytest.raises(WebAccessError, match="can't be read: No such file"):
        find(listen, tmp_path / "nothing")


def test_a_password_is_optional_on_loopback() -> None:
    assert find("127.0.0.1:0").token is None
    assert find("127.0.0.1:0", **{TOKEN_VARIABLE: SECRET}).token == SECRET


@pytest.mark.parametrize(
    "header",
    ["127.0.0.1:8465", "127.0.0.1", "localhost:8465", "LOCALHOST", "[::1]:8465", "192.0.2.7:80",
     "hub.example", "hub.example.:8465"],
)  # fmt: skip
def test_own_names_are_known(header: str) -> None:
    assert find("127.0.0.1:0").knows_host(header)


@pytest.mark.parametrize(
    "header",
    [None, "", "evil.example", "evil.example:8465", "127.0.0.1.evil.example", "localhost.evil:80",
     "hub.example.evil", "[evil]", ":80"],
)  # fmt: skip
def test_other_names_are_not(header: str | None) -> None:
    assert not find("127.0.0.1:0").knows_host(header)


def test_a_session_is_signed_and_expires() -> None:
    access = Access(SECRET, frozenset())
    cookie = access.session(NOW_S)
    assert access.is_session(cookie, NOW_S)
    assert access.is_session(cookie, NOW_S + SESSION_S - 1)
    assert not access.is_session(cookie, NOW_S + SESSION_S + 1)
    ends, _, signature = cookie.partition(".")
    later = f"{int(ends) + 1}.{signature}"
    for wrong in (later, cookie[:-1], "", ".", ends, f"{ends}.", "\udcff.x", f"x.{signature}"):
        assert not access.is_session(wrong, NOW_S)
    assert not Access(SECRET + "!", frozenset()).is_session(cookie, NOW_S)


def test_the_password_is_the_whole_password() -> None:
    access = Access(SECRET, frozenset())
    assert access.is_token(SECRET)
    for wrong in ("", SECRET[:-1], SECRET + " ", SECRET.upper(), "\udcff"):
        assert not access.is_token(wrong)
