"""Runs a broker as a child process. The broker ends when this process ends.

`mosquitto.py` and `embedded.py` define the two kinds of broker.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import ipaddress
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edge_core.errors import EdgePartitionError
from edge_core.program.die_with_parent import bound_to_caller

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The largest MQTT packet that the brokers accept, in bytes. Among the Keras applications at their
#: default input sizes, the largest activations between two stages have 12.8 MB (VGG16's first
#: block, 224 x 224 x 64 float32). The limit is more than twice this size. Four packets of the
#: largest size fit into the memory of a board with 512 MB.
MAX_PACKET_SIZE_BYTES = 32 * 1024 * 1024

_NOT_STARTED = "it was stopped or not started"
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
#: Number of attempts to start on a free port. Another program may start to listen on the port
#: before the broker does.
_FREE_PORT_ATTEMPTS = 5

# CONNECT (MQTT 5.0, section 3.1) with a clean start, a keep-alive of 10 s, no properties and an
# empty client id: the broker then chooses the client id. For CONNACK (section 3.2): the value of
# the first byte, and the offset of the reason code.
_CONNECT_PACKET = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00"
_DISCONNECT_PACKET = b"\xe0\x00"
_CONNACK_TYPE = 0x20
_CONNACK_REASON_OFFSET = 3


class BrokerStartError(EdgePartitionError):
    """A broker could not be started.

    Attributes:
        kind: ``mosquitto`` or ``embedded``. ``auto`` if neither is installed.
        reason: Why the broker did not start, often the last line of the broker's log.
    """

    def __init__(self, kind: str, reason: str, advice: str) -> None:
        self.kind = kind
        self.reason = reason
        broker = "The broker" if kind == "auto" else f"The {kind} broker"
        super().__init__(f"{broker} did not start: {reason}. {advice}")


class PortInUseError(BrokerStartError):
    """The broker did not start because another program listens on the port.

    Attributes:
        host: Requested address.
        port: Requested TCP port.
    """

    def __init__(self, kind: str, host: str, port: int) -> None:
        self.host = host
        self.port = port
        super().__init__(
            kind,
            f"port {port} on {host} is in use",
            f"Stop the program that listens there, use it with --broker mqtt://{host}:{port} if it "
            "is a broker, or choose another port with --listen HOST:PORT.",
        )


class BrokerStoppedError(EdgePartitionError):
    """The broker does not run: it ended by itself, was stopped or was never started.

    Attributes:
        kind: ``mosquitto`` or ``embedded``.
        reason: Why the broker does not run, such as the last line of the broker's log.
    """

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"The {kind} broker does not run: {reason}. Start the broker again.")


class BrokerProcess(ABC):
    """A broker that runs as a child process of this process.

    :meth:`stop` ends the broker, and is called at the end of a ``with`` block and at the exit of
    the interpreter. On Linux the broker also ends if this process is killed. Ctrl-C in the terminal
    does not reach the broker, because the broker runs in a session of its own.

    Args:
        host: Name or IP address to listen on.
        port: TCP port to listen on; 0: :meth:`start` chooses a free port.
        state_dir: Folder for the broker's configuration, log and database (only mosquitto has a
            database). None: a temporary folder, which :meth:`stop` deletes.
    """

    #: ``mosquitto`` or ``embedded``.
    kind: str

    def __init__(self, host: str, port: int, state_dir: Path | None) -> None:
        self.host = host
        self.port = port
        self.state_dir = state_dir
        self._any_port = port == 0
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the broker, such as ``2.0.11``."""

    @property
    def _environment(self) -> Mapping[str, str]:
        """Environment variables for the broker, with default values.

        A variable that this process already has keeps its value in the broker.
        """
        return {}

    @abstractmethod
    def _command(self, folder: Path) -> list[str]:
        """Write the configuration into ``folder``, and return the command that runs the broker.

        The first item of the command is the absolute path of a program.
        """

    @property
    def url(self) -> str:
        """URL for clients on this machine: ``mqtt://HOST:PORT``."""
        host = self._reachable_host
        return f"mqtt://[{host}]:{self.port}" if ":" in host else f"mqtt://{host}:{self.port}"

    @property
    def _reachable_host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def pid(self) -> int:
        """Process id of the broker.

        Raises:
            BrokerStoppedError: The broker does not run.
        """
        if self._process is None:
            raise BrokerStoppedError(self.kind, _NOT_STARTED)
        return self._process.pid

    def start(self) -> Self:
        """Start the broker and wait until it accepts an MQTT 5 client.

        If the broker runs already, do nothing.

        Raises:
            PortInUseError: Another program listens on the port.
            BrokerStartError: The broker failed, or accepted no client within 15 s.
        """
        if self._process is not None:
            return self
        attempts = _FREE_PORT_ATTEMPTS if self._any_port and self.port == 0 else 1
        for attempt in range(1, attempts + 1):
            if attempts > 1:
                self.port = _free_port(self.kind, self.host)
            try:
                self._start_once()
            except PortInUseError:
                if attempt == attempts:
                    raise
            else:
                break
        return self

    def stop(self) -> None:
        """End the broker and wait until it has ended; do nothing if the broker does not run."""
        self._end_process()
        if self.state_dir is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def restart(self) -> None:
        """Stop the broker and start it again on the same port.

        Raises:
            BrokerStartError: The broker did not start; :meth:`start` lists the causes.
        """
        self.stop()
        self.start()

    def wait(self, timeout_s: float) -> None:
        """Wait ``timeout_s`` seconds. If the broker ends in this time, raise an error at once.

        Raises:
            BrokerStoppedError: The broker does not run, or ended during the wait.
        """
        if self._process is None:
            raise BrokerStoppedError(self.kind, _NOT_STARTED)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        if self._process.poll() is not None:
            reason = f"it ended by itself (last line of its log: {self._last_log_line()})"
            raise BrokerStoppedError(self.kind, reason)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def _log_path(self) -> Path:
        if self._folder is None:
            raise BrokerStoppedError(self.kind, _NOT_STARTED)
        return self._folder / f"{self.kind}.log"

    def _start_once(self) -> None:
        _check_port_is_free(self.kind, self.host, self.port)
        atexit.register(self.stop)
        try:
            self._folder = self._make_folder()
            self._process = _spawn(self._command(self._folder), self._log_path, self._environment)
            self._wait_until_it_answers(self._process)
        except OSError as error:
            self.stop()
            raise BrokerStartError(
                self.kind,
                str(error),
                "Check the permissions of the folder, or choose another folder with --state-dir.",
            ) from error
        except BaseException:
            self.stop()
            raise

    def _make_folder(self) -> Path:
        if self.state_dir is None:
            return Path(tempfile.mkdtemp(prefix=f"edge-partition-{self.kind}-"))
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.state_dir.resolve()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            answers = _answers_mqtt(self._reachable_host, self.port)
            if process.poll() is not None:
                self._raise_failed_start()
            if answers:
                return
            if time.monotonic() > deadline:
                raise BrokerStartError(
                    self.kind,
                    f"no MQTT answer on {self.host}:{self.port} within {_START_TIMEOUT_S:.0f} s",
                    "Look for the cause in the last line of the broker's log: "
                    f"{self._last_log_line()}.",
                )
            time.sleep(_POLL_S)

    def _raise_failed_start(self) -> None:
        reason = self._last_log_line()
        if "address already in use" in reason.lower():
            raise PortInUseError(self.kind, self.host, self.port)
        raise BrokerStartError(self.kind, reason, "Correct the cause, then start the broker again.")

    def _last_log_line(self) -> str:
        lines = self._log_path.read_text(errors="replace").split("\n")
        filled = [line.strip() for line in lines if line.strip()]
        return filled[-1].rstrip(".") if filled else "the broker's log is empty"

    def _end_process(self) -> None:
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_loopback(kind: str, host: str) -> bool:
    """Return whether all addresses of ``host`` are loopback addresses.

    Args:
        kind: Kind of the broker, for the error message.
        host: Name or IP address.

    Raises:
        BrokerStartError: The host has no address.
    """
    return all(
        ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
        for _, address in _resolve(kind, host, 0)
    )


def first_address(kind: str, host: str) -> str:
    """Return the first IP address of ``host``.

    Args:
        kind: Kind of the broker, for the error message.
        host: Name or IP address.

    Raises:
        BrokerStartError: The host has no address.
    """
    return str(_resolve(kind, host, 0)[0][1][0])


def _resolve(kind: str, host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    advice = "Give an address of this machine with --listen HOST:PORT."
    # Checked here, because mosquitto would listen on every address if the name were empty.
    if not host:
        raise BrokerStartError(kind, "the host is empty", advice)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BrokerStartError(kind, f"{host!r} has no address: {error}", advice) from error
    return [(family, tuple(address)) for family, *_, address in found]


def _free_port(kind: str, host: str) -> int:
    family, address = _resolve(kind, host, 0)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        _bind(kind, probe, address)
        return int(probe.getsockname()[1])


def _check_port_is_free(kind: str, host: str, port: int) -> None:
    """Raise an error if a program listens on the port. Clients would connect to that program."""
    for family, address in _resolve(kind, host, port):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections of an earlier broker may still be closing. They do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _bind(kind, probe, address)


def _bind(kind: str, probe: socket.socket, address: tuple[Any, ...]) -> None:
    host, port = str(address[0]), int(address[1])
    try:
        probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(kind, host, port) from error
        raise BrokerStartError(
            kind,
            f"it cannot listen on {host}:{port}: {error.strerror}",
            "Give an address of this machine, and another port, with --listen HOST:PORT.",
        ) from error


def _spawn(
    command: list[str], log_path: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a command that ends when this process ends.

    The kernel ends the child when the thread that started the child ends (prctl(2),
    PR_SET_PDEATHSIG). Therefore a new thread starts the child, and waits until the child ends.

    Args:
        command: The command; its first item is the absolute path of a program.
        log_path: File for everything that the command prints.
        environment: Environment variables for the command, besides those of this process. If both
            have a variable of the same name, the command gets the value of this process.
    """
    started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
    arguments = bound_to_caller(command)

    def keep() -> None:
        try:
            with log_path.open("wb") as log:
                process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**environment, **os.environ},
                    start_new_session=True,
                )
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        process.wait()

    threading.Thread(target=keep, name=f"keep-{Path(command[0]).name}", daemon=True).start()
    outcome = started.get()
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def _answers_mqtt(host: str, port: int) -> bool:
    """Return whether an MQTT 5 broker on ``host:port`` accepts an anonymous client."""
    try:
        with socket.create_connection((host, port), timeout=1.0) as link:
            link.sendall(_CONNECT_PACKET)
            answer = b""
            while len(answer) <= _CONNACK_REASON_OFFSET:
                received = link.recv(256)
                if not received:
                    return False
                answer += received
            link.sendall(_DISCONNECT_PACKET)
    except OSError:
        return False
    return answer[0] == _CONNACK_TYPE and answer[_CONNACK_REASON_OFFSET] == 0
