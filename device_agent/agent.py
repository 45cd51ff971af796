"""The agent: two connections to the broker, and five threads.

One connection carries activations, the other one everything else. So a large activation on a slow
link delays neither the keep-alive nor a command.

- network (paho's thread): sorts messages by topic, answers ``ping``, follows manifests in memory;
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
from device_agent.find_route import RouteFinder
from device_agent.jobs import Jobs
from device_agent.locked_deployments import LockedDeployments
from device_agent.manifest_follower import ManifestFollower
from device_agent.presence import Presence
from device_agent.subscriptions import Subscriptions
from device_agent.telemetry.board import measure_matmul_gmac_s, read_software
from device_agent.telemetry.report import Report
from device_agent.telemetry.stats import Stats
from device_agent.worker import Worker
from edge_core.contract.messages import RECEIVE_MAXIMUM, ErrorCode
from edge_core.contract.topics import OFFLINE, ONLINE, Topics
from edge_core.mqtt.agent_requests import AgentRequests
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection, Will
from edge_core.mqtt.data_connection import DataConnection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from device_agent.config import Config
    from device_agent.deployments import Route
    from device_agent.saved_state import SavedState
    from edge_core.mqtt.connection import Message
    from edge_core.program.stop_request import StopRequest

_LOG = logging.getLogger("device-agent")

#: Time for which the broker keeps QoS 1 messages for a disconnected agent, in seconds.
SESSION_EXPIRY_S = 60
#: Time limit of a stopping agent for queued requests, and again for queued jobs, in seconds.
FINISH_S = 10.0
_TICK_S = 0.25
_MIB = 1024 * 1024


class Agent:
    """The agent of one board, from the first connect to the last message."""

    def __init__(self, config: Config, stop: StopRequest) -> None:
        """Lock the state directory.

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
        self._stopping = False
        self._connection = Connection(
            self._address,
            f"edge-agent-{config.name}",
            will=Will(topics.availability(config.name), OFFLINE),
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=RECEIVE_MAXIMUM,
            keepalive_s=config.keepalive,
            on_connected=self._connected,
            on_disconnected=self._disconnected,
            on_taken_over=self._taken_over,
            on_unexpected=self._sort,
        )
        self._data = DataConnection(
            self._address,
            f"edge-agent-{config.name}-data",
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=RECEIVE_MAXIMUM,
            keepalive_s=config.keepalive,
            on_message=self._request_arrived,
            on_connected=self._data_connected,
            on_refused=self._subscription_refused,
        )
        instance = uuid.uuid4().hex
        about = {"device": config.name, "instance": instance}
        self._report = Report(self._connection, topics, config, instance, self._store.free_bytes)
        self._presence = Presence(self._connection, topics, self._report, stop, **about)
        self._subscriptions = Subscriptions(
            self._connection, self._data, topics, self._deployments, self._sort
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
        self._finder = RouteFinder(config.name)
        self._worker = Worker(
            self._data,
            topics,
            config.name,
            routes=self._routes,
            stats=self._stats,
            finder=self._finder,
        )

    def run(self) -> None:
        """Serve until a stop is requested.

        Raises:
            NameInUseError: Another agent has this agent's name at start, or takes the name later.
            BrokerUnreachableError: No broker answered at start. If the broker is lost later, the
                agent waits for the broker.
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
        self._jobs.put(self._save_all)
        self._manifests.start()
        self._subscriptions.update()
        self._worker.start()
        self._jobs.start()

    def _tick(self) -> None:
        self._report.publish_due_profile()
        if self._deployments.expire():
            self._jobs.put(self._save_all)
        self._manifests.publish_due()
        self._report.publish_due_stats(
            queue_length=self._worker.queue_length(),
            stages=lambda: self._stats.take(
                {key: route.serves for key, route in self._routes().items()}
            ),
            refusals=self._deployments.refusals,
        )

    def _end(self) -> None:
        if self._presence.is_taken_over:
            # The availability belongs to the other agent now. A normal close sends no will.
            self._worker.finish(0)
            self._data.close()
            self._connection.close()
            return
        self._stopping = self._inbox.is_stopping = True
        self._subscriptions.leave_shared()
        self._worker.finish(FINISH_S)
        self._jobs.finish(FINISH_S)
        self._presence.say_offline()
        self._data.close()
        self._connection.close()
        _LOG.info("offline")

    def _routes(self) -> Mapping[tuple[str, int], Route]:
        return self._deployments.routes

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
                    self._finder.note_availability(device, is_online=is_online)
                case ["device", _, "command"]:
                    self._inbox.take(message)
        except Exception:  # noqa: BLE001
            _LOG.exception("failed on a message on %s", message.topic)

    # Inference thread, or its stand-in

    def _data_connected(self, is_resumed: bool) -> None:
        if is_resumed:
            self._worker.drop_queue()

    def _subscription_refused(self, topic_filter: str, reason: str) -> None:
        _LOG.warning(
            "the broker at %s refused the subscription to %s: %s. Check the broker's access list.",
            self._address.url,
            topic_filter,
            reason,
        )

    def _request_arrived(self, message: Message) -> None:
        # An exception would end the inference thread.
        try:
            match message.topic[len(self._topics.prefix) + 1 :].split("/"):
                case ["deployment", name, "stage", index, *_] if index.isdecimal():
                    self._take_request(name, int(index), message)
                case _:
                    _LOG.warning("dropped a message on the topic %r", message.topic)
                    self._data.acknowledge(message.receipt)
        except Exception:  # noqa: BLE001
            _LOG.exception("failed on a message on %s", message.topic)
            self._data.acknowledge(message.receipt)

    def _take_request(self, name: str, index: int, message: Message) -> None:
        if not self._stopping:
            if self._saved is not None and (name, index) not in self._routes():
                self._subscriptions.forget(name, index)
            self._worker.submit(name, index, message)
        elif self._subscriptions.is_replicated(name, index):
            self._worker.refuse(
                name,
                index,
                message,
                ErrorCode.STOPPING,
                f"Board {self._config.name} is stopping; other boards serve stage {index}.",
            )
        # Requests that only this board serves stay with the broker until the agent starts again.

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
