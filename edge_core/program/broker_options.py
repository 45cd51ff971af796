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
        """The option's name as a Python parameter: ``ca_file`` for ``--ca-file``."""
        return self.flag.removeprefix("--").replace("-", "_")


#: Options for the broker's address and the client's credentials. Their names are parameters of
#: :meth:`edge_core.mqtt.broker_address.BrokerAddress.parse`, but ``broker`` is named ``url`` there.
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
        "the file with the account's password; without this option, the variable "
        "EDGE_PARTITION_PASSWORD gives the password",
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
        "for TLS: the certificate's private key, if the certificate's file does not have the key",
        "EDGE_PARTITION_KEY_FILE",
    ),
)

PREFIX_OPTION = BrokerOption(
    "--prefix", "PREFIX", "the first levels of every MQTT topic", None, DEFAULT_PREFIX
)


def find_misuse(values: dict[str, str | None], given: frozenset[str]) -> str | None:
    """Return an error message if an option has no effect with the other options; None: no error.

    Only options on the command line are checked, because an environment variable may be meant for
    another broker.

    Args:
        values: The options' values, by :attr:`BrokerOption.name`.
        given: The names of the options on the command line.
    """
    url = values["broker"] or ""
    if "password_file" in given and not values["username"] and "@" not in url:
        return "--password-file needs an account; expected --username NAME too"
    if "key_file" in given and not values["certificate_file"]:
        return "--key-file needs a certificate; expected --certificate-file FILE too"
    for name in ("ca_file", "certificate_file", "key_file"):
        if name in given and url.startswith("mqtt://"):
            flag = f"--{name.replace('_', '-')}"
            return f"{flag} needs TLS, and mqtt:// has none; expected --broker mqtts://HOST:PORT"
    return None
