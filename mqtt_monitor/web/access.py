"""Access to the page: addresses, password, sessions. Pure, apart from reading the password file.

On a loopback address every user of this machine may see the page. Any other address needs a
password, typed into a form or sent as ``Authorization: Bearer``. After a login the browser keeps a
cookie signed with the password. The cookie stays valid when the server restarts, and becomes
invalid when the password changes.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_core.program.listen_address import ListenAddress

TOKEN_VARIABLE = "MQTT_MONITOR_TOKEN"  # noqa: S105 - the name of a variable
#: Shorter passwords can be guessed.
MIN_TOKEN_CHARACTERS = 12
SESSION_S = 7 * 24 * 3600


class WebAccessError(EdgePartitionError):
    """The password is missing, too short or unreadable."""


@dataclass(frozen=True)
class Access:
    """Decides who may see the page.

    Attributes:
        token: The password; None: no password.
        hosts: Names of this server, in lower case, that requests may use besides IP addresses.
    """

    token: str | None
    hosts: frozenset[str]

    def knows_host(self, header: str | None) -> bool:
        """Return whether a ``Host`` header names this server.

        A foreign page could let its own name resolve to this address (DNS rebinding) and then read
        this page. Requests from such a page carry the foreign name and are refused.
        """
        if not header:
            return False
        host = header.lower()
        if host.startswith("["):
            host = host[1:].partition("]")[0]
        else:
            host = host.rpartition(":")[0] if ":" in host else host
        return host.rstrip(".") in self.hosts or _is_address(host)

    def is_token(self, given: str) -> bool:
        """Return whether a password is right; the comparison takes constant time."""
        if self.token is None:
            return True
        return hmac.compare_digest(_digest(given), _digest(self.token))

    def session(self, now_s: float) -> str:
        """Return a cookie that :meth:`is_session` accepts for ``SESSION_S`` seconds."""
        ends = str(int(now_s) + SESSION_S)
        return f"{ends}.{self._sign(ends)}"

    def is_session(self, cookie: str, now_s: float) -> bool:
        """Return whether a cookie has a valid signature and has not expired."""
        ends, _, signature = cookie.partition(".")
        if not hmac.compare_digest(_encode(signature), _encode(self._sign(ends))):
            return False
        return now_s < int(ends)

    def _sign(self, ends: str) -> str:
        key = _digest(f"session {self.token}")
        return hmac.new(key, _encode(ends), hashlib.sha256).hexdigest()


def find_access(
    listen: ListenAddress,
    *,
    token_file: Path | None,
    host_names: tuple[str, ...],
    environ: Mapping[str, str],
) -> Access:
    """Return who may see the page.

    Args:
        listen: The address to listen on.
        token_file: File whose first line is the password.
        host_names: Further names of this server, such as a reverse proxy's.
        environ: Environment variables; ``MQTT_MONITOR_TOKEN`` may contain the password.

    Raises:
        WebAccessError: The password is missing, unreadable or too short.
    """
    given = environ.get(TOKEN_VARIABLE) if token_file is None else _read_token(token_file)
    token = given or None
    if token is None and not listen.is_loopback:
        raise WebAccessError(
            f"A page on {listen.host} needs a password, because others can reach this address. Set "
            f"one with --token-file FILE or {TOKEN_VARIABLE}, or listen on 127.0.0.1."
        )
    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise WebAccessError(
            f"The password has {len(token)} characters; expected at least {MIN_TOKEN_CHARACTERS}. "
            "`openssl rand -base64 24` makes one."
        )
    names = {"localhost", listen.host, *host_names}
    if not listen.is_loopback:
        own = socket.gethostname()
        names |= {own, socket.getfqdn(), f"{own.partition('.')[0]}.local"}
    return Access(token, frozenset(name.lower().rstrip(".") for name in names))


def _read_token(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise WebAccessError(f"{path}: the password can't be read: {reason}.") from None
    token = lines[0].strip() if lines else ""
    if not token:
        raise WebAccessError(f"{path}: expected a password in the first line, found none.")
    return token


def _encode(text: str) -> bytes:
    # A header may contain bytes that are not valid text.
    return text.encode("utf-8", "surrogatepass")


def _digest(text: str) -> bytes:
    return hashlib.sha256(_encode(text)).digest()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
