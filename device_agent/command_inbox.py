"""Commands from hosts: taken in the network thread, done in the jobs thread, answered."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from edge_core.contract.messages import CommandError, ErrorCode, decode_json, encode_json
from edge_core.contract.topics import ANSWER, Topic
from edge_core.errors import MessageTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_agent.commands import Commands
    from device_agent.jobs import Jobs
    from device_agent.timing.time_messages import MessageTimer
    from edge_core.mqtt.connection import Connection, Message

_LOG = logging.getLogger("device-agent")

_MAX_WAITING_COMMANDS = 32
#: The network thread answers a ping; it does not even read larger messages.
_MAX_PING_BYTES = 256
#: Commands after which subscriptions and the profile may be other than before.
_CHANGING = frozenset({"prepare", "load", "abort", "remove"})


class CommandInbox:
    """Answers each command once, with what was done or why not.

    Attributes:
        commands: Does the commands; None while the agent starts.
        is_stopping: Whether all commands are refused because the agent stops.
    """

    def __init__(
        self,
        connection: Connection,
        jobs: Jobs,
        timer: MessageTimer,
        *,
        device: str,
        instance: str,
        on_changed: Callable[[], None],
    ) -> None:
        """Take what commands need.

        Args:
            connection: Answers leave by it.
            jobs: The thread that does commands.
            timer: Does ``time-messages``.
            device: This board's name.
            instance: This process's id, for ``ping``.
            on_changed: Called in the jobs thread after a command that changed deployments.
        """
        self.commands: Commands | None = None
        self.is_stopping = False
        self._connection = connection
        self._jobs = jobs
        self._timer = timer
        self._ping_answer = {"ok": True, "device": device, "instance": instance}
        self._on_changed = on_changed

    def take(self, message: Message) -> None:
        """Answer a ping, queue another command, or refuse it. In the network thread."""
        if message.retained:
            _LOG.warning("ignored a retained command")
        elif self.is_stopping:
            self._answer(message, _refusal(ErrorCode.STOPPING, "The agent is stopping."))
        elif len(message.payload) <= _MAX_PING_BYTES and _is_ping(message):
            self._answer(message, self._ping_answer)
        elif self._jobs.waiting() >= _MAX_WAITING_COMMANDS:
            reason = f"{_MAX_WAITING_COMMANDS} commands wait; send it later."
            self._answer(message, _refusal(ErrorCode.OVERLOADED, reason))
        else:
            self._jobs.put(lambda: self._do(message))

    def _do(self, message: Message) -> None:
        waited_s = time.monotonic() - message.arrived
        if self.commands is None or (message.expiry_s is not None and waited_s > message.expiry_s):
            _LOG.warning("a command expired while others ran")
            return
        command: dict[str, Any] = {}
        try:
            command = decode_json(message.payload)
            if command.get("command") == "time-messages":
                self.commands.check_idle(force=command.get("force") is True)
                answer = {"ok": True, **self._timer.answer(command)}
            else:
                answer = {"ok": True, **self.commands.answer(command)}
        except CommandError as error:
            _LOG.warning("refused %s: %s", command.get("command", "a command"), error)
            answer = _refusal(error.code, error.reason)
        except Exception as error:  # noqa: BLE001 - the host must hear of it
            _LOG.exception("command %s", command.get("command"))
            answer = _refusal(ErrorCode.BAD_COMMAND, f"The agent failed: {error!r}")
        if command.get("command") in _CHANGING:
            self._on_changed()
        self._answer(message, answer)

    def _answer(self, message: Message, answer: dict[str, Any]) -> None:
        if not message.response_topic:
            return
        try:
            self._connection.publish(
                Topic(message.response_topic, ANSWER),
                encode_json(answer),
                correlation_data=message.correlation_data,
            )
        except (MessageTooLargeError, ValueError) as error:
            _LOG.warning("an answer can't be sent to %r: %s", message.response_topic, error)


def _is_ping(message: Message) -> bool:
    try:
        return decode_json(message.payload).get("command") == "ping"
    except CommandError:
        return False


def _refusal(code: ErrorCode, reason: str) -> dict[str, Any]:
    return {"ok": False, "code": str(code), "reason": reason}
