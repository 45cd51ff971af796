"""The agent: two connections to the broker, and five threads.

One connection carries activations, the other one everything else. So a large activation on a slow
link delays neither the keep-alive nor a command.

- network (paho's thread): passes each message to the part of the agent that handles its topic,
  answers ``ping``, and updates the deployments in memory when a manifest arrives;
- inference (:mod:`device_agent.worker`): waits for activations and runs stages;
- stand-in (:mod:`edge_core.mqtt.stand_in`): receives activations during a long inference;
- jobs (:mod:`device_agent.jobs`): executes commands and writes to the disk;
- main: starts the agent, does the periodic work, stops the agent.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from device_agent.artifact_store import ArtifactStore
from device_agent.claim_name import NameInUseError, check_name_is_free
from device_agent.command_inbox import CommandInbox
from device_agent.jobs import Jobs
from device_agent.locked_deployments import LockedDeployments
from device_agent.manifest_follower import ManifestFollower
from device_agent.presence import Presence
from device_agent.request_intake import RequestIntake
from device_agent.subscriptions import Subscriptions
from device_agent.telemetry.board import measure_matmul_gmac_s, read_software
from device_agent.telemetry.report import Report
from device_agent.telemetry.stats import Stats
from edge_core.contract.messages import RECEIVE_MAXIMUM, SESSION_EXPIRY_S
from edge_core.contract.topics import OFFLINE, ONLINE, Topics
from edge_core.mqtt.agent_requests import AgentRequests
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection, Will

if TYPE_CHECKING:
    from collections.abc import Mapping

    from device_agent.config import Config
    from device_agent.deployments import ServedStage
    from device_agent.saved_state import SavedState
    from edge_core.mqtt.connection import Message
    from edge_core.program.stop_request import StopRequest

_LOG = logging.getLogger("device-agent")

#: Longest time that a stopping agent spends on its queued requests, in seconds. Its queued jobs get
#: the same time again.
FINISH_S = 10.0
_TICK_S = 0.25
_MIB = 1024 * 1024


class Agent:
    """The agent of one board, from its first connection to the broker to its last message."""

    def __init__(self, config: Config, stop: StopRequest) -> None:
        """Lock the state directory and create the parts of the agent; :meth:`run` connects.

        Args:
            config: Options of the agent.
            stop: Request that ends :meth:`run`.

        Raises:
            StateDirError: The state directory cannot be used.
            BrokerAddressError: The broker's URL, the password or the certificate cannot be used.
        """
        self._config = config
        self._stop = stop
        self._topics = topics = Topics(config.prefix)
        self._address = _read_address(config)
        self._store = ArtifactStore(config.state_dir)
        self._stats = Stats()
        self._jobs = Jobs()
        self._deployments = LockedDeployments(config.name)
        #: None until the deployments on disk are loaded.
        self._saved: SavedState | None = None
        self._connection = self._make_connection()
        self._intake = RequestIntake(
            config,
            self._address,
            topics,
            served_stages=self._served_stages,
            subscriptions=lambda: self._subscriptions,
            stats=self._stats,
        )
        instance = uuid.uuid4().hex
        about = {"device": config.name, "instance": instance}
        self._report = Report(self._connection, topics, config, instance, self._store.free_bytes)
        self._presence = Presence(self._connection, topics, self._report, stop, **about)
        self._subscriptions = Subscriptions(
            self._connection, self._intake.connection, topics, self._deployments, self._sort
        )
        self._own_topic = topics.answer(f"edge-agent-{config.name}")
        self._manifests = ManifestFollower(
            self._connection,
            AgentRequests(self._connection, self._own_topic),
            topics,
            self._deployments,
            device=config.name,
            on_changed=self._manifest_changed,
        )
        self._inbox = CommandInbox(
            self._connection,
            self._jobs,
            **about,
            update_subscriptions=self._subscriptions.update,
            on_changed=self._report.publish_profile,
        )

    def run(self) -> None:
        """Serve until a stop is requested.

        Raises:
            NameInUseError: Another agent has this agent's name at start, or takes the name later.
            BrokerUnreachableError: No broker answered at start. If the connection is lost later,
                the agent waits for the broker.
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
        if self._presence.is_taken_over:
            raise NameInUseError(self._config.name)

    # Main thread

    def _make_connection(self) -> Connection:
        config = self._config
        return Connection(
            self._address,
            f"edge-agent-{config.name}",
            will=Will(self._topics.availability(config.name), OFFLINE),
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=RECEIVE_MAXIMUM,
            keepalive_s=config.keepalive,
            on_connected=self._connected,
            on_disconnected=self._disconnected,
            on_taken_over=self._taken_over,
            on_unexpected=self._sort,
        )

    def _begin(self) -> None:
        """Import numpy, measure the board and load the deployments on disk.

        The board goes online before this method runs, because these steps take seconds on a small
        board.
        """
        from device_agent.capacity import Capacity  # noqa: PLC0415
        from device_agent.commands import Commands  # noqa: PLC0415
        from device_agent.saved_state import SavedState  # noqa: PLC0415
        from device_agent.timing.time_messages import MessageTimer  # noqa: PLC0415

        config = self._config
        self._report.profile |= {**read_software(), "matmul_gmac_s": measure_matmul_gmac_s()}
        saved = SavedState(config.name, self._deployments, self._store, threads=config.threads)
        ram_bytes = config.ram_mib * _MIB if config.ram_mib else None
        self._inbox.commands = Commands(
            config.name,
            self._deployments,
            self._store,
            saved,
            capacity=Capacity(config.name, self._store, ram_bytes),
            timer=MessageTimer(
                self._address, config.name, self._own_topic.below("time-messages"), config.threads
            ),
            threads=config.threads,
        )
        saved.load()
        self._saved = saved
        self._intake.is_loaded = True
        self._jobs.put(self._save_all)
        self._manifests.start()
        self._subscriptions.update()
        self._intake.worker.start()
        self._jobs.start()

    def _tick(self) -> None:
        self._report.publish_due_profile()
        if self._deployments.expire():
            self._jobs.put(self._save_all)
        self._manifests.publish_due()
        self._report.publish_due_stats(
            queue_length=self._intake.worker.queue_length(),
            stages=lambda: self._stats.take(
                {key: stage.serves for key, stage in self._served_stages().items()}
            ),
            refusals=self._deployments.refusals,
        )

    def _end(self) -> None:
        if self._presence.is_taken_over:
            # The availability topic belongs to the other agent now. After a normal close, the
            # broker does not publish this agent's will.
            self._intake.worker.finish(0)
            self._intake.connection.close()
            self._connection.close()
            return
        self._intake.is_stopping = self._inbox.is_stopping = True
        self._subscriptions.leave_shared()
        self._intake.worker.finish(FINISH_S)
        self._jobs.finish(FINISH_S)
        self._presence.say_offline()
        self._intake.connection.close()
        self._connection.close()
        _LOG.info("offline")

    def _served_stages(self) -> Mapping[tuple[str, int], ServedStage]:
        return self._deployments.served_stages

    # Jobs thread

    def _save_all(self) -> None:
        if self._saved is not None:
            self._saved.save_all()
            self._saved_changes()

    def _save(self, deployment: str) -> None:
        if self._saved is not None:
            self._saved.save(deployment)
            self._saved_changes()

    def _saved_changes(self) -> None:
        self._subscriptions.update()
        self._report.publish_profile()

    # Network thread

    def _connected(self) -> None:
        if not self._presence.was_online:
            name = self._config.name
            for topic in (self._topics.command(name), self._topics.profile(name)):
                self._connection.subscribe(topic, self._sort)
        self._presence.connected()
        self._manifests.connected()

    def _disconnected(self, reason: str) -> None:
        _LOG.warning("lost the connection to the broker at %s: %s", self._address.url, reason)

    def _taken_over(self) -> None:
        self._presence.yield_name()

    def _sort(self, message: Message) -> None:
        # An exception would end paho's thread, and with it the agent's connection.
        try:
            match message.topic[len(self._topics.prefix) + 1 :].split("/"):
                case ["deployment", _, "manifest"]:
                    self._manifests.manifest_arrived(message)
                case ["device", _, "profile"]:
                    self._presence.profile_arrived(message)
                case ["device", device, "availability"]:
                    is_online = message.payload == ONLINE
                    self._intake.finder.note_availability(device, is_online=is_online)
                case ["device", _, "command"]:
                    self._inbox.take(message)
        except Exception:  # noqa: BLE001
            _LOG.exception("cannot handle the message on the topic %s", message.topic)

    # Any thread

    def _manifest_changed(self, deployment: str) -> None:
        self._subscriptions.update()
        self._jobs.put(lambda: self._save(deployment))


def _read_address(config: Config) -> BrokerAddress:
    return BrokerAddress.parse(
        config.broker,
        username=config.username,
        password_file=config.password_file,
        ca_file=config.ca_file,
        certificate_file=config.certificate_file,
        key_file=config.key_file,
    )
