"""A broker as a child process: start it, wait until it answers MQTT, stop it, never orphan it.

What kind of broker it is, `mosquitto.py` and `embedded.py` say.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import ipaddress
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

from edge_core.errors import EdgePartitionError
from edge_core.program.die_with_parent import bound_to_caller

#: The largest MQTT packet a broker of ours takes, in bytes. The largest boundary among the Keras
#: applications at their default size is VGG16's first block (224 x 224 x 64 float32, 12.8 MB), so
#: this passes it twice over, and four such messages in flight still fit a board with 512 MB.
MAX_PACKET_SIZE_BYTES = 32 * 1024 * 1024

_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
#: Between finding a free port and the broker's taking it, somebody else may be quicker.
_FREE_PORT_ATTEMPTS = 5

# MQTT 5.0, section 3.1: a clean start, keep-alive 10 s, no properties, a client identifier the
# broker chooses. Section 3.2: the answer's first byte, and where its reason code stands.
_CONNECT_PACKET = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00"
_DISCONNECT_PACKET = b"\xe0\x00"
_CONNACK_TYPE = 0x20
_CONNACK_REASON_OFFSET = 3


class BrokerStartError(EdgePartitionError):
    """A broker could not be started.

    Attributes:
        kind: ``mosquitto`` or ``embedded``.
        reason: What was wrong, often the broker's own last words.
    """

    def __init__(self, kind: str, reason: str, advice: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"The {kind} broker did not start: {reason}. {advice}")


class PortInUseError(BrokerStartError):
    """Something else listens on the port.

    Attributes:
        host: The address asked for.
        port: The TCP port asked for.
    """

    def __init__(self, kind: str, host: str, port: int) -> None:
        self.host = host
        self.port = port
        super().__init__(
            kind,
            f"port {port} on {host} is in use",
            f"Stop what listens there, use it as it is with --broker mqtt://{host}:{port}, "
            "or choose another with --port.",
        )


class BrokerStoppedError(EdgePartitionError):
    """A broker that ran ended by itself.

    Attributes:
        kind: ``mosquitto`` or ``embedded``.
        reason: The broker's last words.
    """

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"The {kind} broker ended by itself: {reason}. Start it again.")


class BrokerProcess(ABC):
    """A broker that runs as a child of this process, and ends with it.

    It ends with :meth:`stop`, with the ``with`` block, with the interpreter, and (on Linux) when
    this process is killed. A signal sent to the terminal's foreground group, such as Ctrl-C, does
    not reach it: whoever started it decides.

    Args:
        host: The address to listen on, a name or an IP address.
        port: The TCP port; 0 takes a free one.
        state_dir: Folder for the configuration, the log and, if the broker persists, its database.
            None: a private one that goes with the broker.
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
        """The broker's own version, such as ``2.0.11``."""

    @abstractmethod
    def _command(self, folder: Path) -> list[str]:
        """Write what the broker needs into ``folder``; return the command that runs it.

        The first item is an absolute path.
        """

    @property
    def url(self) -> str:
        """Where a client on this machine finds the broker: ``mqtt://HOST:PORT``."""
        host = self._reachable_host
        return f"mqtt://[{host}]:{self.port}" if ":" in host else f"mqtt://{host}:{self.port}"

    @property
    def _reachable_host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def pid(self) -> int:
        """The broker's process id.

        Raises:
            BrokerStoppedError: It does not run.
        """
        if self._process is None:
            raise BrokerStoppedError(self.kind, "it does not run")
        return self._process.pid

    def start(self) -> Self:
        """Start the broker and return once it accepts an MQTT 5 client; no-op if it runs.

        Raises:
            PortInUseError: Something else has the port.
            BrokerStartError: The broker failed or did not answer within 15 s.
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
        """End the broker and wait until it is gone; no-op if it does not run."""
        self._end_process()
        if self.state_dir is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def restart(self) -> None:
        """Stop the broker and start it again on the same port.

        Raises:
            BrokerStartError: As :meth:`start`.
        """
        self.stop()
        self.start()

    def wait(self, timeout_s: float) -> None:
        """Return after ``timeout_s`` seconds.

        Raises:
            BrokerStoppedError: The broker ended meanwhile.
        """
        if self._process is None:
            raise BrokerStoppedError(self.kind, "it does not run")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        if self._process.poll() is not None:
            raise BrokerStoppedError(self.kind, self._last_words())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def _log_path(self) -> Path:
        if self._folder is None:
            raise BrokerStoppedError(self.kind, "it does not run")
        return self._folder / f"{self.kind}.log"

    def _start_once(self) -> None:
        _check_port_is_free(self.kind, self.host, self.port)
        atexit.register(self.stop)
        try:
            self._folder = self._make_folder()
            self._process = _spawn(self._command(self._folder), self._log_path)
            self._wait_until_it_answers(self._process)
        except OSError as error:
            self.stop()
            raise BrokerStartError(
                self.kind,
                str(error),
                "Check its permissions, or name a folder of your own with --state-dir.",
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
                    f"Its last words: {self._last_words()}.",
                )
            time.sleep(_POLL_S)

    def _raise_failed_start(self) -> None:
        reason = self._last_words()
        if "address already in use" in reason.lower():
            raise PortInUseError(self.kind, self.host, self.port)
        raise BrokerStartError(self.kind, reason, "Mend that and start it again.")

    def _last_words(self) -> str:
        lines = self._log_path.read_text(errors="replace").split("\n")
        spoken = [line.strip() for line in lines if line.strip()]
        return spoken[-1].rstrip(".") if spoken else "it said nothing"

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
    """Tell whether ``host`` names addresses of this machine alone.

    Raises:
        BrokerStartError: The host has no address.
    """
    return all(
        ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
        for _, address in _resolve(kind, host, 0)
    )


def first_address(kind: str, host: str) -> str:
    """Return the first IP address of ``host``.

    Raises:
        BrokerStartError: The host has none.
    """
    return str(_resolve(kind, host, 0)[0][1][0])


def _resolve(kind: str, host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    advice = "Name one of this machine's with --host."
    # To getaddrinfo the empty name means this machine, to mosquitto every address.
    if not host:
        raise BrokerStartError(kind, "'' is no address", advice)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BrokerStartError(kind, f"{host!r} is no address: {error}", advice) from error
    return [(family, tuple(address)) for family, *_, address in found]


def _free_port(kind: str, host: str) -> int:
    family, address = _resolve(kind, host, 0)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        _bind(kind, probe, address)
        return int(probe.getsockname()[1])


def _check_port_is_free(kind: str, host: str, port: int) -> None:
    """Raise if anything listens there: its answer would otherwise be taken for our broker's."""
    for family, address in _resolve(kind, host, port):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # A connection of an earlier broker that is still closing must not count.
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
            "Name an address of this machine with --host and a port you may use with --port.",
        ) from error


def _spawn(command: list[str], log_path: Path) -> subprocess.Popen[bytes]:
    """Start ``command`` bound to this process's life, its output in ``log_path``.

    The kernel takes "parent" to mean the thread that forked (prctl(2)), so a thread that lives as
    long as the child does the forking.
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
    """Tell whether an MQTT 5 broker on ``host:port`` accepts a client without a name."""
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
