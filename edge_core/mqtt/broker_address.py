"""The address of a broker, and the credentials with which a client connects."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_core.errors import BrokerUnreachableError, EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Name of the environment variable with the broker's URL.
BROKER_VARIABLE = "EDGE_PARTITION_BROKER"
#: The broker's URL if the environment variable is not set.
DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883


class BrokerAddressError(EdgePartitionError):
    """A broker's URL, password file or certificate file cannot be used."""


@dataclass(frozen=True)
class BrokerAddress:
    """The address of a broker, and the credentials with which a client connects.

    Attributes:
        host: Name or IP address of the broker's machine.
        port: TCP port of the broker.
        tls: Whether the connection is encrypted with TLS, as in an ``mqtts://`` URL. The client
            then checks the broker's certificate.
        username: User name; None: the client sends none.
        password: Password; None: the client sends none. The password is never printed.
        ca_file: Path of a PEM file with the trusted CA certificates; None: the system's
            certificates are trusted.
        certificate_file: Path of a PEM file with the client's certificate; None: the client sends
            no certificate.
        key_file: Path of a PEM file with the key of the client's certificate; None: the key is in
            ``certificate_file``.
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        username: str | None = None,
        password_file: str | None = None,
        ca_file: str | None = None,
        certificate_file: str | None = None,
        key_file: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> BrokerAddress:
        """Read a URL ``mqtt[s]://[USER@]HOST[:PORT]``, and look up the client's credentials.

        If an argument is None, an environment variable gives the value.

        Args:
            url: URL of the broker. The default port is 1883, and 8883 for ``mqtts``.
            username: User name, if the URL contains none.
            password_file: Path of a file that contains the password.
            ca_file: Path of a PEM file with the trusted CA certificates.
            certificate_file: Path of a PEM file with the client's certificate.
            key_file: Path of a PEM file with the client's key.
            environ: Environment variables. The method reads ``EDGE_PARTITION_USERNAME``,
                ``EDGE_PARTITION_PASSWORD``, ``EDGE_PARTITION_PASSWORD_FILE``,
                ``EDGE_PARTITION_CA_FILE``, ``EDGE_PARTITION_CERTIFICATE_FILE`` and
                ``EDGE_PARTITION_KEY_FILE``.

        Raises:
            BrokerAddressError: The URL or the password file cannot be used.
        """
        expected = "expected mqtt://HOST:PORT or mqtts://HOST:PORT"
        shown = re.sub(r"//.*@", "//...@", url)  # Without a password.
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BrokerAddressError(
                f"The broker's URL {shown!r} is not valid ({error}); {expected}."
            ) from None
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
            raise BrokerAddressError(f"The broker's URL {shown!r} is not valid; {expected}.")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise BrokerAddressError(
                f"The broker's URL {shown!r} has text after the port; {expected}."
            )
        if parts.password is not None:
            raise BrokerAddressError(
                "The broker's URL contains a password, which other users of this machine can read; "
                "expected a URL without a password. Write the password to a file, and name the "
                "file with --password-file or EDGE_PARTITION_PASSWORD_FILE."
            )
        password = environ.get("EDGE_PARTITION_PASSWORD")
        password_file = password_file or environ.get("EDGE_PARTITION_PASSWORD_FILE")
        if password_file:
            password = _read_password(password_file)
        tls = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=port if port is not None else (DEFAULT_TLS_PORT if tls else DEFAULT_PORT),
            tls=tls,
            username=parts.username or username or environ.get("EDGE_PARTITION_USERNAME"),
            password=password,
            ca_file=ca_file or environ.get("EDGE_PARTITION_CA_FILE"),
            certificate_file=certificate_file or environ.get("EDGE_PARTITION_CERTIFICATE_FILE"),
            key_file=key_file or environ.get("EDGE_PARTITION_KEY_FILE"),
        )

    @property
    def url(self) -> str:
        """URL of the broker, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def unreachable(self, error: OSError | ValueError) -> BrokerUnreachableError:
        """Return the error that tells the user about an error of the socket or of TLS."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return BrokerUnreachableError(
                self.url,
                f"the broker's certificate is not trusted ({error.verify_message.rstrip('.')}); "
                "give the CA's certificate file with --ca-file or EDGE_PARTITION_CA_FILE",
            )
        return BrokerUnreachableError(self.url, getattr(error, "strerror", None) or str(error))

    def tls_context(self) -> ssl.SSLContext:
        """Return settings for TLS: trusted CA certificates, and the client's own certificate.

        Raises:
            BrokerAddressError: A certificate file or key file cannot be used.
        """
        # Neither call names the file in its error.
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise BrokerAddressError(
                f"The CA file {self.ca_file} can't be used: {error.strerror or error}; expected a "
                "readable file with certificates in PEM format."
            ) from None
        if self.certificate_file:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file)
            except OSError as error:
                raise BrokerAddressError(
                    f"The certificate file {self.certificate_file} with the key in "
                    f"{self.key_file or 'the same file'} can't be used: {error.strerror or error}; "
                    "expected a readable certificate and its key in PEM format."
                ) from None
        return context


def _read_password(path: str) -> str:
    try:
        return Path(path).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise BrokerAddressError(
            f"The password file {path} can't be read: {reason}; expected a text file that contains "
            "the password."
        ) from None
