"""Who may look at the page: addresses, passwords, sessions. Pure but for reading the secret.

On loopback whoever is on this machine may look. Listening wider takes a secret, typed into a form
or sent as ``Authorization: Bearer``. A browser that logged in keeps a cookie that is signed with
the secret: it outlives the server's restart and ends with the secret.
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
#: Shorter ones can be guessed.
MIN_TOKEN_CHARACTERS = 12
SESSION_S = 7 * 24 * 3600


class WebAccessError(EdgePartitionError):
    """The page can't be offered: a secret is missing, too short or can't be read."""


@dataclass(frozen=True)
class Access:
    """Decides.

    Attributes:
        token: The secret; None: nobody is asked for one.
        hosts: Names that a request may call this server, beside IP addresses, in small letters.
    """

    token: str | None
    hosts: frozenset[str]

    def knows_host(self, header: str | None) -> bool:
        """Return whether a ``Host`` header names this server.

        A page elsewhere may have its own name point to this address (DNS rebinding) and then read
        what is here as its own; but its requests carry its name.
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
        """Return whether this is the secret, in a time that tells nothing of it."""
        if self.token is None:
            return True
        return hmac.compare_digest(_digest(given), _digest(self.token))

    def session(self, now_s: float) -> str:
        """Return a cookie's value that :meth:`is_session` takes for ``SESSION_S``."""
        ends = str(int(now_s) + SESSION_S)
        return f"{ends}.{self._sign(ends)}"

    def is_session(self, cookie: str, now_s: float) -> bool:
        """Return whether a cookie is one of ours and has not ended."""
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
    """Gather who may look.

    Args:
        listen: Where the server is to listen.
        token_file: Holds the secret; its first line counts.
        host_names: Further names of this server, such as a reverse proxy's.
        environ: May hold the secret as ``MQTT_MONITOR_TOKEN``.

    Raises:
        WebAccessError: A secret is needed and there is none, or it can't be read or is too short.
    """
    given = environ.get(TOKEN_VARIABLE) if token_file is None else _read_token(token_file)
    token = given or None
    if token is None and not listen.is_loopback:
        raise WebAccessError(
            f"Whoever reaches {listen.host} would see the fleet: give a password with "
            f"--token-file FILE or {TOKEN_VARIABLE}, or listen on 127.0.0.1."
        )
    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise WebAccessError(
            f"The password has {len(token)} characters; at least {MIN_TOKEN_CHARACTERS} are "
            "needed. `openssl rand -base64 24` makes a good one."
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
        reason = getattr(error, "strerror", None) or "is no text"
        raise WebAccessError(f"{path}: the password can't be read: {reason}.") from None
    token = lines[0].strip() if lines else ""
    if not token:
        raise WebAccessError(f"{path}: expected a password in the first line, found nothing.")
    return token


def _encode(text: str) -> bytes:
    # Headers may hold bytes that are no text.
    return text.encode("utf-8", "surrogatepass")


def _digest(text: str) -> bytes:
    return hashlib.sha256(_encode(text)).digest()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
