"""The broker options of every program that connects to a broker."""

from __future__ import annotations

from dataclasses import dataclass

from edge_core.contract.topics import DEFAULT_PREFIX
from edge_core.mqtt.broker_address import BROKER_VARIABLE, DEFAULT_BROKER


@dataclass(frozen=True)
class BrokerOption:
    """A command-line option.

    Attributes:
        flag: The option on the command line, such as ``--ca-file``.
        metavar: The placeholder of the option's value in ``-h``.
        help: The option's line in ``-h``, without a capital or a period.
        variable: The environment variable that sets the option if the command line does not. None:
            there is no such variable.
        default: The value if neither the command line nor the variable sets the option.
    """

    flag: str
    metavar: str
    help: str
    variable: str | None
    default: str | None = None

    @property
    def name(self) -> str:
        """The option as a parameter: ``ca_file`` for ``--ca-file``."""
        return self.flag.removeprefix("--").replace("-", "_")


#: The broker's address and the client's credentials. The names equal the parameters of
#: :meth:`edge_core.mqtt.broker_address.BrokerAddress.parse`, except ``broker``, which is ``url``
#: there.
BROKER_OPTIONS = (
    BrokerOption(
        "--broker",
        "URL",
        "the broker: mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS",
        BROKER_VARIABLE,
        DEFAULT_BROKER,
    ),
    BrokerOption("--username", "NAME", "the account at the broker", "EDGE_PARTITION_USERNAME"),
    BrokerOption(
        "--password-file",
        "FILE",
        "the file that holds the account's password; EDGE_PARTITION_PASSWORD may hold the password "
        "itself",
        "EDGE_PARTITION_PASSWORD_FILE",
    ),
    BrokerOption(
        "--ca-file",
        "FILE",
        "for TLS: PEM certificates to trust instead of the system's",
        "EDGE_PARTITION_CA_FILE",
    ),
    BrokerOption(
        "--certificate-file",
        "FILE",
        "for TLS: this client's own PEM certificate",
        "EDGE_PARTITION_CERTIFICATE_FILE",
    ),
    BrokerOption(
        "--key-file",
        "FILE",
        "for TLS: the key of the certificate, where another file holds the key",
        "EDGE_PARTITION_KEY_FILE",
    ),
)

PREFIX_OPTION = BrokerOption(
    "--prefix", "PREFIX", "the first levels of every MQTT topic", None, DEFAULT_PREFIX
)


def find_misuse(values: dict[str, str | None], given: frozenset[str]) -> str | None:
    """Return an error message if a given option has no effect with the other options, else None.

    Only options from the command line are checked: a variable may be set for another broker.

    Args:
        values: The options' values, by :attr:`BrokerOption.name`.
        given: The names of the options on the command line.
    """
    url = values["broker"] or ""
    if "password_file" in given and not values["username"] and "@" not in url:
        return "--password-file needs the account that the password is for: --username NAME"
    if "key_file" in given and not values["certificate_file"]:
        return "--key-file needs the certificate that the key is for: --certificate-file FILE"
    for name in ("ca_file", "certificate_file", "key_file"):
        if name in given and url.startswith("mqtt://"):
            flag = f"--{name.replace('_', '-')}"
            return f"{flag} needs TLS, and mqtt:// has none; expected --broker mqtts://HOST:PORT"
    return None
