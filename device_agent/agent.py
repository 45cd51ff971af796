"""The agent at work: one connection, and which thread does what.

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
from typing import TYPE_CHECKING

from device_agent.artifact_store import ArtifactStore
from device_agent.claim_name import NameInUseError, check_name_is_free
from device_agent.command_inbox import CommandInbox
from device_agent.jobs import Jobs
from device_agent.publish_forgotten import publish_forgotten
from device_agent.subscriptions import Subscriptions
from device_agent.telemetry.board import measure_matmul_gmac_s, read_software
from device_agent.telemetry.report import Report
from device_agent.telemetry.stats import Stats
from device_agent.timing.time_messages import MessageTimer
from device_agent.worker import Worker
from edge_core.contract.messages import RECEIVE_MAXIMUM, ErrorCode, decode_json
from edge_core.contract.topics import OFFLINE, ONLINE, Topics
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.agent_requests import AgentRequests
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection, Will

if TYPE_CHECKING:
    from collections.abc import Mapping

    from device_agent.config import Config
    from device_agent.deployments import Route
    from device_agent.locked_deployments import LockedDeployments
    from device_agent.saved_state import SavedState
    from edge_core.mqtt.connection import Message
    from edge_core.program.stop_request import StopRequest

_LOG = logging.getLogger("device-agent")

#: How long the broker keeps QoS 1 messages for an agent that is away.
SESSION_EXPIRY_S = 60
#: How long a broker may take to show what it retains; after that the agent takes it as forgotten.
RETAINED_WAIT_S = 2.0
#: How long a stopping agent works on the requests that it holds.
FINISH_S = 10.0
_TICK_S = 0.25
_MIB = 1024 * 1024


class Agent:
    """One board's agent, from connecting to its last message."""

    def __init__(self, config: Config, stop: StopRequest) -> None:
        """Take the state directory.

        Args:
            config: The agent's options.
            stop: Ends :meth:`run`.

        Raises:
            StateDirError: The state directory can't be used.
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
        self._stats = Stats()
        self._jobs = Jobs()
        self._deployments: LockedDeployments | None = None
        self._saved: SavedState | None = None
        self._early_lock = threading.Lock()
        self._early_manifests: list[Message] = []
        self._manifests_due: float | None = None
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
        self._requests = AgentRequests(
            self._connection, self._topics.answer(f"edge-agent-{config.name}")
        )
        self._subscriptions = Subscriptions(self._connection, self._topics, self._sort)
        self._report = Report(self._connection, self._topics, config, self._instance)
        timer = MessageTimer(
            self._connection,
            self._topics.answer(f"edge-agent-{config.name}").below("time-messages"),
            config.threads,
        )
        self._inbox = CommandInbox(
            self._connection,
            self._jobs,
            timer,
            device=config.name,
            instance=self._instance,
            on_changed=self._changed,
        )
        self._worker = Worker(
            self._connection, self._topics, config.name, self._routes, self._stats
        )

    def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            NameInUseError: Another agent has this name, or took it.
            BrokerUnreachableError: No broker at start; the agent waits for one that is lost later.
            BrokerRefusedError: The broker refused the connection.
            RuntimeUnavailableError: No TFLite runtime is installed.
        """
        check_name_is_free(self._config, self._address)
        self._connection.open(self._config.connect_timeout)
        try:
            self._begin()
            while not self._stop.wait(_TICK_S):
                self._tick()
        finally:
            self._end()
        if self._taken_over:
            raise NameInUseError(self._config.name)

    # Start

    def _begin(self) -> None:
        """Do what takes time, now that the board is online: import, measure, load."""
        from device_agent.commands import Commands  # noqa: PLC0415 - numpy and TFLite
        from device_agent.locked_deployments import LockedDeployments  # noqa: PLC0415
        from device_agent.saved_state import SavedState  # noqa: PLC0415

        config = self._config
        self._report.profile |= {**read_software(), "matmul_gmac_s": measure_matmul_gmac_s()}
        deployments = LockedDeployments(config.name)
        saved = SavedState(config.name, deployments, self._store, threads=config.threads)
        commands = Commands(
            config.name,
            deployments,
            self._store,
            saved,
            threads=config.threads,
            ram_bytes=config.ram_mib * _MIB if config.ram_mib else None,
        )
        saved.load()
        with self._early_lock:
            for message in self._early_manifests:
                deployments.manifest_arrived(self._topics.name_in(message.topic), message.payload)
            self._deployments, self._saved, self._inbox.commands = deployments, saved, commands
        self._jobs.put(self._save_all)
        self._subscriptions.update(deployments)
        self._manifests_due = time.monotonic() + RETAINED_WAIT_S
        self._worker.start()
        self._jobs.start()

    def _routes(self) -> Mapping[tuple[str, int], Route]:
        return self._deployments.routes if self._deployments is not None else {}

    # Ticks

    def _tick(self) -> None:
        self._report.publish_due_profile(self._store.free_bytes)
        deployments = self._deployments
        if deployments is None:
            return
        if deployments.expire():
            self._jobs.put(self._save_all)
        due = self._manifests_due
        if due is not None and time.monotonic() >= due and self._connection.is_connected:
            self._manifests_due = None
            with deployments.read() as held:
                forgotten = held.unconfirmed()
            publish_forgotten(
                forgotten, self._connection, self._requests, self._topics, self._config.name
            )
        self._report.publish_due_stats(
            queue_length=self._worker.queue_length(),
            stages=lambda: self._stats.take(
                {key: route.serves for key, route in self._routes().items()}
            ),
            refusals=deployments.refusals,
        )

    def _save_all(self) -> None:
        if self._saved is not None:
            self._saved.save_all()
            self._changed()

    def _changed(self) -> None:
        if self._deployments is not None:
            self._subscriptions.update(self._deployments)
        self._report.publish_profile(self._store.free_bytes)

    # In the network thread

    def _connected(self) -> None:
        name = self._config.name
        availability = self._topics.availability(name)
        if self._connections == 0:
            for topic in (self._topics.command(name), self._topics.profile(name)):
                self._connection.subscribe(topic, self._sort)
            self._connection.publish(availability, ONLINE)
            self._report.publish_profile(self._store.free_bytes)
            _LOG.info("online at %s as %s", self._address.url, name)
        else:
            # The profile that the broker holds tells whether the name is still ours: it is
            # published again only where there is none (see `_profile_arrived`).
            self._report.profile_due_s = time.monotonic() + RETAINED_WAIT_S
            self._connection.publish(availability, ONLINE)
            _LOG.info("online again at %s", self._address.url)
        self._connections += 1
        if self._deployments is not None:
            with self._deployments.change() as held:
                held.expect_manifests()
            self._manifests_due = time.monotonic() + RETAINED_WAIT_S

    def _profile_arrived(self, message: Message) -> None:
        """Yield to another agent of our name that connected while we were away.

        A broker should say "session taken over" (MQTT 5.0, section 3.14.2.1); mosquitto 2.0.11
        only closes the connection, so that two agents would take it from each other for ever.
        """
        if self._connections > 1 and message.payload:
            self._report.profile_due_s = None
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
                    self._inbox.take(message)
            self._connection.acknowledge(message)
        except Exception:  # noqa: BLE001
            _LOG.exception("a message on %s", message.topic)
            # It would hold a place of the receive maximum for as long as the connection lasts.
            self._connection.acknowledge(message)

    def _request_arrived(self, name: str, index: int, message: Message) -> None:
        if not self._stopping:
            if self._deployments is not None and (name, index) not in self._routes():
                self._subscriptions.forget(name, index)
            self._worker.submit(name, index, message)
        elif self._subscriptions.is_shared(name, index):
            self._worker.refuse(
                name,
                index,
                message,
                ErrorCode.STOPPING,
                f"Board {self._config.name} is stopping; other boards serve stage {index}.",
            )
            self._connection.acknowledge(message)
        # What only this board serves stays with the broker until the agent is back.

    def _manifest_arrived(self, message: Message) -> None:
        with self._early_lock:
            deployments, saved = self._deployments, self._saved
            if deployments is None or saved is None:
                self._early_manifests.append(message)
                return
        name = self._topics.name_in(message.topic)
        if deployments.manifest_arrived(name, message.payload):
            self._subscriptions.update(deployments)

            def save() -> None:
                saved.save(name)
                self._changed()

            self._jobs.put(save)

    # Stop

    def _end(self) -> None:
        if self._taken_over:
            # The availability is the other agent's now, and no will may say otherwise.
            self._connection.close()
            return
        self._stopping = self._inbox.is_stopping = True
        self._subscriptions.leave_shared()
        self._worker.finish(FINISH_S)
        self._jobs.finish(FINISH_S)
        try:
            self._connection.publish_and_wait(
                self._topics.availability(self._config.name), OFFLINE, timeout_s=2.0
            )
        except EdgePartitionError:
            _LOG.warning("the broker is away; its will says offline")
        self._connection.close()
        _LOG.info("offline")
