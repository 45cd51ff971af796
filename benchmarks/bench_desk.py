"""Start the programs of a benchmark, read their processor time, and store the figures.

The programs listen on 127.0.0.1 only. They end with the ``with`` block of :class:`BenchDesk`, and
on Linux also when the benchmark is killed.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import psutil
from bare_mqtt import BareClient
from emulated_fleet import keep, machine

import edge_core
from broker_config.serve.mosquitto import HEAP, find_mosquitto
from edge_core.contract.topics import DEFAULT_PREFIX, ONLINE, Topics
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.program.die_with_parent import bound_to_caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_HERE = Path(__file__).resolve().parent
#: The checkout whose packages this process imports.
ROOT = Path(edge_core.__file__).resolve().parents[1]
_PATIENCE_S = 30.0
#: Number of the clock that counts a process's processor time (``CPUCLOCK_SCHED`` in Linux's
#: include/linux/posix-timers.h). clock_getcpuclockid(3) makes a clock id from it and a process id.
_SCHED_CLOCK = 2

#: Configuration of mosquitto, with the settings that `broker_config` uses.
_BROKER = """\
listener {port} 127.0.0.1
{certificates}
allow_anonymous true
set_tcp_nodelay true
max_packet_size 33554432
max_inflight_messages 128
max_queued_messages 1000
max_queued_bytes 134217728
user {user}
log_dest none
"""


@dataclass(frozen=True)
class Broker:
    """A running broker.

    Attributes:
        port: TCP port on 127.0.0.1.
        pid: Process id.
        ca_file: Certificate to trust; None: no TLS.
    """

    port: int
    pid: int
    ca_file: str | None = None

    @property
    def address(self) -> BrokerAddress:
        scheme = "mqtts" if self.ca_file else "mqtt"
        url = f"{scheme}://127.0.0.1:{self.port}"
        return BrokerAddress.parse(url, ca_file=self.ca_file, environ={})

    def client(self, client_id: str, **options: Any) -> BareClient:
        return BareClient(self.port, client_id, ca_file=self.ca_file, **options)

    def options(self) -> list[str]:
        """Return the options that give this broker to a program of this project."""
        return ["--broker", self.address.url, *self._ca_options()]

    def bare_options(self) -> list[str]:
        """Return the options that give this broker to a bare program."""
        return ["--port", str(self.port), *self._ca_options()]

    def _ca_options(self) -> list[str]:
        return ["--ca-file", self.ca_file] if self.ca_file else []


class BenchDesk:
    """The processes and the temporary folder of one benchmark. A context manager.

    Attributes:
        folder: Path of the temporary folder.
    """

    def __init__(self, *, default_heap: bool = False) -> None:
        """Prepare a desk.

        Args:
            default_heap: Whether mosquitto runs without the environment variables that
                `broker_config` sets for the heap. A system service runs in this way. Such a broker
                returns the memory of each large message to the system, and takes new pages for the
                next message.
        """
        self._heap = {} if default_heap else HEAP

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        name = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        self.folder = Path(name)
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    # Brokers

    def broker(self) -> Broker:
        """Start mosquitto with the settings of this project's local broker."""
        return self._broker("broker", "")

    def tls_broker(self) -> Broker:
        """Start mosquitto with the same settings and a certificate; it accepts only TLS."""
        certificate, key = self.folder / "certificate.pem", self.folder / "key.pem"
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        words += ["-nodes", "-days", "2", "-subj", "/CN=benchmark", "-addext"]
        words += ["subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=digitalSignature,keyCertSign"]
        words += ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run(words, check=True, capture_output=True, timeout=_PATIENCE_S)
        return self._broker("tls-broker", f"certfile {certificate}\nkeyfile {key}", certificate)

    def _broker(self, log: str, certificates: str, ca_file: Path | None = None) -> Broker:
        port = free_port()
        settings = _BROKER.format(
            port=port, certificates=certificates, user=psutil.Process().username()
        )
        configuration = self.folder / f"{log}.conf"
        configuration.write_text(settings)
        words = [str(find_mosquitto()), "-c", str(configuration)]
        process = self.start(words, log, variables=self._heap)
        wait_for(lambda: _listens(port), f"the {log}")
        return Broker(port, process.pid, None if ca_file is None else str(ca_file))

    def shaped(self, broker: Broker, mbit_s: float, delay_ms: float = 1.0) -> Broker:
        """Start a proxy that emulates a slow link to a broker.

        Returns:
            The broker with the port of the proxy: clients of this port use the slow link.
        """
        words = [sys.executable, "-m", "edge_partition.emulation.shaped_link"]
        words += ["--to", f"127.0.0.1:{broker.port}", "--mbit-s", str(mbit_s)]
        log = f"link-{time.monotonic_ns()}"
        self.start([*words, "--delay-ms", str(delay_ms)], log, says_ready=True)
        return replace(broker, port=int(self.log(log)))

    # Programs

    def start(
        self,
        words: Sequence[str],
        log: str,
        *,
        root: Path = ROOT,
        says_ready: bool = False,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[bytes]:
        """Start a program that imports the packages of ``root``; it ends with the ``with`` block.

        Args:
            words: Program, as an absolute path, and arguments.
            log: Name of the program's log, for :meth:`log`.
            root: Checkout whose packages the program imports.
            says_ready: Whether to wait for the program's first line.
            variables: Further variables of the program's environment.
        """
        path = self.folder / f"{log}.log"
        with path.open("ab") as stream:
            process = subprocess.Popen(
                bound_to_caller(words),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=self.folder,
                env={**environment(root), **variables},
            )
        self._stack.callback(stop, process)
        if says_ready:
            wait_for(lambda: b"\n" in path.read_bytes(), lambda: f"{log}: {path.read_text()}")
        return process

    def start_bare(self, script: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a script of this folder, and wait until it prints its first line."""
        words = [sys.executable, str(_HERE / script), *options]
        return self.start(words, f"{script}-{time.monotonic_ns()}", says_ready=True)

    def start_script(
        self, script: str, options: Iterable[str], log: str
    ) -> subprocess.Popen[bytes]:
        """Start a script of this folder; :meth:`log` returns its output."""
        return self.start([sys.executable, str(_HERE / script), *options], log)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def agent(
        self,
        broker: Broker,
        name: str,
        *options: str,
        root: Path = ROOT,
        prefix: str = DEFAULT_PREFIX,
        wait: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start `python -m device_agent` of a checkout, with one thread for inference."""
        words = [sys.executable, "-m", "device_agent", *broker.options(), "--name", name]
        words += ["--state-dir", str(self.folder / f"state-{name}"), "--threads", "1"]
        process = self.start([*words, "--prefix", prefix, *options], name, root=root)
        if wait:
            wait_online(broker, name, prefix=prefix)
        return process

    def deploy(
        self,
        broker: Broker,
        words: Iterable[str],
        *,
        root: Path = ROOT,
        prefix: str = DEFAULT_PREFIX,
    ) -> None:
        """Deploy files with the code of the checkout ``root``.

        ``words`` are arguments of `deploy_files.py`.
        """
        command = [sys.executable, str(_HERE / "deploy_files.py"), *broker.options()]
        command += ["--prefix", prefix, *words]
        done = subprocess.run(
            command, check=False, env=environment(root), cwd=self.folder, capture_output=True,
            text=True, timeout=600,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"The deployment failed: {done.stderr.strip().splitlines()[-1]}")

    def write(self, name: str, model: bytes) -> Path:
        """Write a model to ``NAME.tflite`` in the temporary folder; return the path."""
        path = self.folder / f"{name}.tflite"
        path.write_bytes(model)
        return path


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that this benchmark started."""
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment(root: Path) -> dict[str, str]:
    """Return the environment of a program that imports the packages of the checkout ``root``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_PARTITION")}
    return {**kept, "PYTHONPATH": str(root)}


def wait_online(broker: Broker, name: str, *, prefix: str = DEFAULT_PREFIX) -> None:
    """Wait until a board's agent publishes `online`."""
    with broker.client(f"bench-wait-{name}", timeout_s=int(_PATIENCE_S)) as client:
        client.subscribe(Topics(prefix).availability(name))
        try:
            while client.receive().payload != ONLINE:
                pass
        except TimeoutError:
            raise SystemExit(
                f"The agent {name} did not publish `online` within {_PATIENCE_S:g} s."
            ) from None


def wait_for(condition: Any, what: Any, timeout_s: float = _PATIENCE_S) -> None:
    """Wait until ``condition()`` is true.

    Args:
        condition: Function without arguments.
        what: Text for the error, or a function that returns the text.
        timeout_s: Longest wait, in seconds.

    Raises:
        SystemExit: The time is over.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"Waited {timeout_s:g} s for {what() if callable(what) else what}.")
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Figures


def cpu_ns(pid: int) -> int:
    """Return the processor time of a process so far, user and system, in nanoseconds.

    The time is from the scheduler's clock, because /proc/PID/stat counts in steps of 10 ms.
    """
    return time.clock_gettime_ns((~pid << 3) | _SCHED_CLOCK)


def rss_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@dataclass(frozen=True)
class Spread:
    """Median of a figure over the rounds, with the lower and upper quartile."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = sorted(values)
        if len(found) < 2:  # noqa: PLR2004
            return cls(found[0], found[0], found[0], 1)
        low, median, high = statistics.quantiles(found, n=4, method="inclusive")
        return cls(median, low, high, len(found))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the spread of the ratios ``above / below``, with one ratio for each round."""
    return Spread.of(a / b for a, b in zip(above, below, strict=True))


def in_turns(sides: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """Yield the order of the sides for each round; the first side changes from round to round."""
    for number in range(rounds):
        first = number % len(sides)
        yield [*sides[first:], *sides[:first]]


def commit_of(root: Path) -> str:
    """Return the commit of a checkout, with ``+`` if files differ from the commit."""
    words = ["git", "-C", str(root), "describe", "--always", "--exclude", "*", "--dirty=+"]
    found = subprocess.run(words, check=False, capture_output=True, text=True, timeout=20)
    return found.stdout.strip() or "unknown"


def finish(name: str, document: dict[str, Any], *, is_json: bool, is_kept: bool) -> None:
    """Print the figures as JSON if ``is_json``; store them in docs/measured if ``is_kept``."""
    found = {"machine": machine(), "commit": commit_of(ROOT), **document}
    text = json.dumps(found, indent=1, default=asdict)
    if is_kept:
        keep(name, json.loads(text))
    if is_json:
        print(text)


def add_options(parser: Any) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--keep", action="store_true", help="store the figures in docs/measured")
