"""The agent at work: one connection, and which thread does what with what arrives by it.

- network (paho's): sorts messages by topic, answers ``ping``, follows manifests in memory;
- inference (`worker.py`): runs stages;
- jobs (`jobs.py`): commands and the disk;
- main: start, ticks, stop.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from device_agent.artifact_store import ArtifactStore
from device_agent.jobs import Jobs
from device_agent.telemetry.board import (
    LoadReader,
    measure_matmul_gmac_s,
    read_free,
    read_hardware,
    read_software,
)
from device_agent.telemetry.link import LinkReader
from device_agent.telemetry.stats import Stats
from device_agent.timing.time_messages import MessageTimer
from device_agent.worker import Worker
from edge_core.contract.messages import (
    RECEIVE_MAXIMUM,
    CommandError,
    ErrorCode,
    decode_json,
    encode_json,
)
from edge_core.contract.topics import OFFLINE, ONLINE, Topics
from edge_core.errors import EdgePartitionError, MessageTooLargeError
from edge_core.mqtt.connection import (
    BrokerAddress,
    Connection,
    RequestTimeoutError,
    Will,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from device_agent.config import Config
    from device_agent.deployments import Deployments, Route
    from edge_core.contract.manifest import Manifest
    from edge_core.mqtt.connection import Message
    from edge_core.program.stop_request import StopRequest

_LOG = logging.getLogger("device-agent")

#: How long the broker keeps QoS 1 messages for an agent that is away.
SESSION_EXPIRY_S = 60
STATS_PERIOD_S = 5.0
#: How long a broker may take to show what it retains before we take it that it forgot.
RETAINED_WAIT_S = 2.0
#: How long a stopping agent works on what it holds.
FINISH_S = 10.0
_PING_WAIT_S = 1.0
_PEER_WAIT_S = 2.0
_TICK_S = 0.25
_MAX_WAITING_COMMANDS = 32
#: A ping is answered by the network thread; larger messages aren't even read there.
_MAX_PING_BYTES = 256
_MIB = 1024 * 1024


class NameInUseError(EdgePartitionError):
    """Another agent of this name is connected.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Agent name already in use: another agent called {name} is connected to this broker. "
            "Stop it, or choose another --name."
        )


class Agent:
    """One board's agent, from connecting to saying goodbye."""

    def __init__(self, config: Config, stop: StopRequest) -> None:
        """Take the state directory.

        Args:
            config: How it is to run.
            stop: Ends :meth:`run`.

        Raises:
            StateDirError: It can't be used.
            BrokerAddressError: The broker's URL, password or certificate can't be used.
        """
        self._config = config
        self._topics = Topics(config.prefix)
        self._address = BrokerAddress.parse(
            config.broker,
            username=config.username,
            password_file=config.password_file,
            ca_file=config.ca_file,
            certificate_file=config.certificate_file,
            key_file=config.key_file,
        )
        self._store = ArtifactStore(config.state_dir)
        self._instance = uuid.uuid4().hex
        self._profile = {"instance": self._instance, **read_hardware(config)}
        self._stats = Stats()
        self._link = LinkReader()
        self._sequence = 0
        self._jobs = Jobs()
        self._deployments: Deployments | None = None
        self._early_manifests: list[Message] = []
        self._subscription_lock = threading.Lock()
        self._filters: dict[str, tuple[str, int] | None] = {}
        self._shared: set[tuple[str, int]] = set()
        self._manifests_due: float | None = None
        self._profile_due: float | None = None
        self._connections = 0
        self._taken_over = False
        self._stopping = False
        self._stop = stop
        self._connection = Connection(
            self._address,
            f"edge-agent-{config.name}",
            will=Will(self._topics.availability(config.name), OFFLINE),
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=RECEIVE_MAXIMUM,
            keepalive_s=config.keepalive,
            manual_ack=True,
            on_connected=self._connected,
            on_disconnected=self._disconnected,
            on_taken_over=self._other_agent_came,
            on_unexpected=self._sort,
        )
        self._message_timer = MessageTimer(
            self._connection,
            f"{self._topics.result(f'edge-agent-{config.name}')}/time-messages",
            config.threads,
        )
        self._worker = Worker(
            self._connection, self._topics, config.name, self._routes, self._stats
        )

    def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            NameInUseError: Another agent has this name, or took it.
            BrokerUnreachableError: No broker at start; one that is lost later is awaited.
            BrokerRefusedError: The broker said no.
            RuntimeUnavailableError: No TFLite runtime is installed.
        """
        self._check_name_is_free()
        self._connection.open(self._config.connect_timeout)
        try:
            self._begin()
            load = LoadReader()
            stats_due = time.monotonic() + STATS_PERIOD_S
            while not self._stop.wait(_TICK_S):
                self._tick()
                if time.monotonic() >= stats_due:
                    stats_due += STATS_PERIOD_S
                    self._publish_stats(load)
        finally:
            self._end()
        if self._taken_over:
            raise NameInUseError(self._config.name)

    # Start

    def _check_name_is_free(self) -> None:
        name = self._config.name
        client = f"edge-agent-{name}-{uuid.uuid4().hex[:8]}"
        own_topic = self._topics.result(client)
        availability = self._topics.availability(name)
        timeout_s = self._config.connect_timeout
        probe = Connection(self._address, client, keepalive_s=self._config.keepalive)
        probe.open(timeout_s)
        try:
            if (
                probe.retained(availability, own_topic, timeout_s=timeout_s).get(availability)
                == ONLINE
            ):
                probe.request(
                    self._topics.command(name),
                    {"command": "ping"},
                    device=name,
                    reply_topic=own_topic,
                    timeout_s=_PING_WAIT_S,
                )
                raise NameInUseError(name)
        except RequestTimeoutError:
            _LOG.info("the agent that was %s is gone; its will is not out yet", name)
        finally:
            probe.close()

    def _begin(self) -> None:
        """Do what takes time, now that the board is online: import, measure, load."""
        from device_agent.deployments import Deployments  # noqa: PLC0415 - numpy and TFLite

        self._profile |= {**read_software(), "matmul_gmac_s": measure_matmul_gmac_s()}
        deployments = Deployments(
            self._config.name,
            self._store,
            threads=self._config.threads,
            ram_bytes=self._config.ram_mib * _MIB if self._config.ram_mib else None,
        )
        deployments.load_from_disk()
        with self._subscription_lock:
            for message in self._early_manifests:
                deployments.manifest_arrived(self._topics.name_in(message.topic), message.payload)
            self._deployments = deployments
        self._jobs.put(self._save_all)
        self._subscribe()
        self._manifests_due = time.monotonic() + RETAINED_WAIT_S
        self._worker.start()
        self._jobs.start()

    def _routes(self) -> Mapping[tuple[str, int], Route]:
        return self._deployments.routes if self._deployments is not None else {}

    # Ticks

    def _tick(self) -> None:
        if _is_due(self._profile_due) and self._connection.is_connected:
            self._profile_due = None
            self._publish_profile()
        deployments = self._deployments
        if deployments is None:
            return
        if deployments.expire():
            self._jobs.put(self._save_all)
        if _is_due(self._manifests_due) and self._connection.is_connected:
            self._manifests_due = None
            for manifest in deployments.unconfirmed():
                stranger = self._board_without(manifest)
                if stranger is not None:
                    _LOG.warning(
                        "%s: the broker has no manifest and board %s holds nothing of it: it was "
                        "undeployed while this board was away; `edge-partition undeploy %s` "
                        "clears it here",
                        *(manifest.deployment, stranger, manifest.deployment),
                    )
                    continue
                _LOG.info(
                    "%s: the broker forgot the manifest; published again", manifest.deployment
                )
                self._connection.publish(
                    self._topics.manifest(manifest.deployment),
                    manifest.to_json().encode(),
                    retain=True,
                )

    def _board_without(self, manifest: Manifest) -> str | None:
        """Return another board of a deployment that says it holds nothing of it, if there is one.

        A broker without the manifest has forgotten it, or it was undeployed while this board was
        away: only the other boards know which. Boards that don't answer prove nothing.
        """
        others = {name for stage in manifest.stages for name in stage.devices}
        for device in sorted(others - {self._config.name}):
            try:
                answer = self._connection.request(
                    self._topics.command(device),
                    {"command": "status"},
                    device=device,
                    reply_topic=self._topics.result(f"edge-agent-{self._config.name}"),
                    timeout_s=_PEER_WAIT_S,
                )
            except EdgePartitionError:
                continue
            held = answer.get("deployments", ())
            if all(item.get("deployment") != manifest.deployment for item in held):
                return device
        return None

    def _save_all(self) -> None:
        if self._deployments is not None:
            self._deployments.save_all()
            self._changed()

    def _publish_stats(self, load: LoadReader) -> None:
        if not self._connection.is_connected:
            return
        self._sequence += 1
        document = {
            "device": self._config.name,
            "sequence": self._sequence,
            "period_s": STATS_PERIOD_S,
            **load.read(),
            "link": self._link.read(self._connection.local_address),
            "queue_length": self._worker.queue_length(),
            "stages": self._stats.take(
                {key: route.serves for key, route in self._routes().items()}
            ),
            "refusals": self._deployments.refusals() if self._deployments is not None else [],
        }
        self._connection.publish(
            self._topics.stats(self._config.name), encode_json(document), qos=0
        )

    def _publish_profile(self) -> None:
        # What is queued while away would be sent before we know whether the name is still ours.
        if not self._connection.is_connected or self._profile_due is not None:
            return
        document = {**self._profile, **read_free(self._store.free_bytes())}
        self._connection.publish(
            self._topics.profile(self._config.name), encode_json(document), retain=True
        )

    # Subscriptions

    def _changed(self) -> None:
        self._subscribe()
        self._publish_profile()

    def _subscribe(self) -> None:
        """Listen to what the deployments need, and to nothing else."""
        deployments = self._deployments
        if deployments is None:
            return
        with self._subscription_lock:
            wanted: dict[str, tuple[str, int] | None] = {
                self._topics.manifest(name): None for name in deployments.names()
            }
            self._shared = set()
            for (name, index), sharers in deployments.stage_filters().items():
                wanted[self._topics.stage_subscription(name, index, sharers)] = (name, index)
                if sharers > 1:
                    self._shared.add((name, index))
            for topic_filter in self._filters.keys() - wanted.keys():
                self._connection.unsubscribe(topic_filter)
            for topic_filter in wanted.keys() - self._filters.keys():
                self._connection.subscribe(topic_filter, self._sort)
            self._filters = wanted

    # In the network thread

    def _connected(self) -> None:
        availability = self._topics.availability(self._config.name)
        if self._connections == 0:
            for topic in (
                self._topics.command(self._config.name),
                self._topics.profile(self._config.name),
            ):
                self._connection.subscribe(topic, self._sort)
            self._connection.publish(availability, ONLINE, retain=True)
            self._publish_profile()
            _LOG.info("online at %s as %s", self._address.url, self._config.name)
        else:
            # The profile that the broker holds tells whether the name is still ours: it is
            # published again only where there is none (see `_profile_arrived`).
            self._profile_due = time.monotonic() + RETAINED_WAIT_S
            self._connection.publish(availability, ONLINE, retain=True)
            _LOG.info("online again at %s", self._address.url)
        self._connections += 1
        if self._deployments is not None:
            self._deployments.expect_manifests()
            self._manifests_due = time.monotonic() + RETAINED_WAIT_S

    def _profile_arrived(self, message: Message) -> None:
        """Yield to another agent of our name that connected while we were away.

        A broker should say "session taken over" (MQTT 5.0, section 3.14.2.1); mosquitto 2.0.11
        only closes the connection, so that two agents would take it from each other for ever.
        """
        if self._connections > 1 and message.payload:
            self._profile_due = None
            if decode_json(message.payload).get("instance") != self._instance:
                self._other_agent_came()

    def _disconnected(self, reason: str) -> None:
        _LOG.warning("lost the broker at %s: %s", self._address.url, reason)

    def _other_agent_came(self) -> None:
        self._taken_over = True
        self._stop.set()

    def _sort(self, message: Message) -> None:
        # An exception would end paho's thread, and with it the agent without a word.
        try:
            match message.topic[len(self._topics.prefix) + 1 :].split("/"):
                case ["deployment", name, "stage", index]:
                    self._request_arrived(name, int(index), message)
                    return
                case ["deployment", _, "manifest"]:
                    self._manifest_arrived(message)
                case ["device", _, "profile"]:
                    self._profile_arrived(message)
                case ["device", _, "command"]:
                    self._command_arrived(message)
            self._connection.acknowledge(message)
        except Exception:  # noqa: BLE001
            _LOG.exception("a message on %s", message.topic)
            # It would hold a place of the receive maximum for as long as the connection lasts.
            self._connection.acknowledge(message)

    def _request_arrived(self, name: str, index: int, message: Message) -> None:
        if not self._stopping:
            if self._deployments is not None and (name, index) not in self._routes():
                self._forget_subscription(name, index)
            self._worker.submit(name, index, message)
        elif (name, index) in self._shared:
            self._worker.refuse(
                name,
                index,
                message,
                ErrorCode.STOPPING,
                f"Board {self._config.name} is stopping; other boards serve stage {index}.",
            )
            self._connection.acknowledge(message)
        # What only this board serves stays with the broker until the agent is back.

    def _forget_subscription(self, name: str, index: int) -> None:
        """End what the broker's session still holds of a deployment that left this board."""
        for sharers in (1, 2):
            self._connection.unsubscribe(self._topics.stage_subscription(name, index, sharers))

    def _manifest_arrived(self, message: Message) -> None:
        with self._subscription_lock:
            deployments = self._deployments
            if deployments is None:
                self._early_manifests.append(message)
                return
        name = self._topics.name_in(message.topic)
        if deployments.manifest_arrived(name, message.payload):
            self._subscribe()

            def save() -> None:
                deployments.save(name)
                self._changed()

            self._jobs.put(save)

    def _command_arrived(self, message: Message) -> None:
        if message.retained:
            _LOG.warning("ignored a retained command")
        elif self._stopping:
            self._answer(message, _refusal(ErrorCode.STOPPING, "The agent is stopping."))
        elif len(message.payload) <= _MAX_PING_BYTES and _is_ping(message):
            self._answer(
                message, {"ok": True, "device": self._config.name, "instance": self._instance}
            )
        elif self._jobs.waiting() >= _MAX_WAITING_COMMANDS:
            self._answer(
                message,
                _refusal(
                    ErrorCode.OVERLOADED, f"{_MAX_WAITING_COMMANDS} commands wait; send it later."
                ),
            )
        else:
            self._jobs.put(lambda: self._do_command(message))

    # In the jobs thread

    def _do_command(self, message: Message) -> None:
        if (
            message.expiry_s is not None and time.monotonic() - message.arrived > message.expiry_s
        ) or self._deployments is None:
            _LOG.warning("a command expired while others ran")
            return
        command: dict[str, Any] = {}
        try:
            command = decode_json(message.payload)
            if command.get("command") == "time-messages":
                self._deployments.check_idle(force=command.get("force") is True)
                answer = {"ok": True, **self._message_timer.answer(command)}
            else:
                answer = {"ok": True, **self._deployments.answer(command)}
        except CommandError as error:
            _LOG.warning("refused %s: %s", command.get("command", "a command"), error)
            answer = _refusal(error.code, error.reason)
        except Exception as error:  # noqa: BLE001 - the host must hear of it
            _LOG.exception("command %s", command.get("command"))
            answer = _refusal(ErrorCode.BAD_COMMAND, f"The agent failed: {error!r}")
        if command.get("command") in {"prepare", "load", "abort", "remove"}:
            self._changed()
        self._answer(message, answer)

    def _answer(self, message: Message, answer: dict[str, Any]) -> None:
        if not message.response_topic:
            return
        try:
            self._connection.publish(
                message.response_topic,
                encode_json(answer),
                correlation_data=message.correlation_data,
            )
        except (MessageTooLargeError, ValueError) as error:
            _LOG.warning("an answer can't be sent to %r: %s", message.response_topic, error)

    # Stop

    def _end(self) -> None:
        if self._taken_over:
            # The availability is the other agent's now, and no will may say otherwise.
            self._connection.close()
            return
        self._stopping = True
        with self._subscription_lock:
            for topic_filter, stage in self._filters.items():
                if stage in self._shared:
                    self._connection.unsubscribe(topic_filter)
        self._worker.finish(FINISH_S)
        self._jobs.finish(FINISH_S)
        try:
            self._connection.publish_and_wait(
                self._topics.availability(self._config.name), OFFLINE, retain=True, timeout_s=2.0
            )
        except EdgePartitionError:
            _LOG.warning("the broker is away; its will says offline")
        self._connection.close()
        _LOG.info("offline")


def _is_due(due: float | None) -> bool:
    return due is not None and time.monotonic() >= due


def _is_ping(message: Message) -> bool:
    try:
        return decode_json(message.payload).get("command") == "ping"
    except CommandError:
        return False


def _refusal(code: ErrorCode, reason: str) -> dict[str, Any]:
    return {"ok": False, "code": str(code), "reason": reason}
