"""Decides who may see the web page, by host names, a password and sessions.

A server that listens on a loopback address needs no password: every user of this machine may see
the page. A server that listens on any other address needs a password. A user types the password
into a form, and a program sends it as ``Authorization: Bearer``. After a login, the browser keeps a
cookie that is signed with the password. The cookie stays valid if the server restarts, and becomes
invalid if the password changes.
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
#: Fewest characters of a password. Shorter passwords can be guessed.
MIN_TOKEN_CHARACTERS = 12
#: Time after which a login expires, in seconds.
SESSION_S = 7 * 24 * 3600


class WebAccessError(EdgePartitionError):
    """The password is missing, too short or unreadable."""


@dataclass(frozen=True)
class Access:
    """Decides who may see the page.

    Attributes:
        token: The password; None: everyone who reaches the server may see the page.
        hosts: Host names of this server, in lower case. The ``Host`` header of a request must have
            one of these names or an IP address.
    """

    token: str | None
    hosts: frozenset[str]

    def knows_host(self, header: str | None) -> bool:
        """Return whether a ``Host`` header contains an IP address or a host name of this server.

        This check prevents DNS rebinding. In this attack, the attacker changes the DNS entry of the
        attacker's page to the address of this server, so that a browser lets the attacker's page
        read the monitor's page. The browser's requests still contain the attacker's host name.
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
        """Return whether a given password is the right password.

        How long the comparison takes does not depend on the given password.
        """
        if self.token is None:
            return True
        return hmac.compare_digest(_digest(given), _digest(self.token))

    def session(self, now_s: float) -> str:
        """Return a cookie that :meth:`is_session` accepts until ``SESSION_S`` seconds from now.

        Args:
            now_s: The present time, in seconds since the epoch.
        """
        ends = str(int(now_s) + SESSION_S)
        return f"{ends}.{self._sign(ends)}"

    def is_session(self, cookie: str, now_s: float) -> bool:
        """Return whether a cookie has a valid signature and has not expired.

        Args:
            cookie: The cookie, as received.
            now_s: The present time, in seconds since the epoch.
        """
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
    """Read the password and the host names that decide who may see the page.

    Args:
        listen: The address to listen on.
        token_file: File whose first line is the password; None: no file.
        host_names: Further host names of this server, such as the name of a reverse proxy.
        environ: Environment variables. If ``token_file`` is None, the password is the value of
            ``MQTT_MONITOR_TOKEN``.

    Raises:
        WebAccessError: The password is missing, unreadable or too short.
    """
    given = environ.get(TOKEN_VARIABLE) if token_file is None else _read_token(token_file)
    token = given or None
    if token is None and not listen.is_loopback:
        raise WebAccessError(
            f"A page on {listen.host} needs a password, because other machines can reach this "
            f"address. Set a password with --token-file FILE or the environment variable "
            f"{TOKEN_VARIABLE}, or listen on 127.0.0.1."
        )
    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise WebAccessError(
            f"The password has {len(token)} characters; expected at least {MIN_TOKEN_CHARACTERS}. "
            "Make a password with `openssl rand -base64 24`."
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
        raise WebAccessError(
            f"{path}: the password can't be read: {reason}. Give a text file with --token-file."
        ) from None
    token = lines[0].strip() if lines else ""
    if not token:
        raise WebAccessError(
            f"{path}: the first line is empty. Write the page's password into the first line."
        )
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
