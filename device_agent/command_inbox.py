"""Receive hosts' commands in the network thread, and execute them in the jobs thread."""

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
    from edge_core.mqtt.connection import Connection, Message

_LOG = logging.getLogger("device-agent")

_MAX_WAITING_COMMANDS = 32
#: Largest payload in which the network thread looks for a ``ping``, in bytes.
_MAX_PING_BYTES = 256
#: Commands that may change the deployments and the board's free memory and storage.
_CHANGING = frozenset({"prepare", "load", "abort", "remove"})


class CommandInbox:
    """Answers each command with its result, or with the reason why the board refuses the command.

    Retained commands and commands that have expired get no answer.

    Attributes:
        commands: Executor of all commands except ``ping``; None while the agent starts.
        is_stopping: Whether the agent is stopping and therefore refuses all commands.
    """

    def __init__(
        self,
        connection: Connection,
        jobs: Jobs,
        *,
        device: str,
        instance: str,
        update_subscriptions: Callable[[], None],
        on_changed: Callable[[], None],
    ) -> None:
        """Create an inbox; the agent sets :attr:`commands` later.

        Args:
            connection: The agent's connection.
            jobs: The jobs thread.
            device: This board's name.
            instance: Id of this process, for ``ping``.
            update_subscriptions: Function that updates the board's subscriptions. The jobs thread
                calls the function before each answer.
            on_changed: Function that the jobs thread calls after each command that may change the
                deployments.
        """
        self.commands: Commands | None = None
        self.is_stopping = False
        self._connection = connection
        self._jobs = jobs
        self._ping_answer = {"ok": True, "device": device, "instance": instance}
        self._update_subscriptions = update_subscriptions
        self._on_changed = on_changed

    def take(self, message: Message) -> None:
        """Answer a ``ping``; queue or refuse any other command. Runs in the network thread."""
        if message.retained:
            _LOG.warning("ignored a retained command; send commands without the retain flag")
        elif self.is_stopping:
            self._answer(
                message,
                _refusal(
                    ErrorCode.STOPPING, "The agent is stopping. Send the command again later."
                ),
            )
        elif len(message.payload) <= _MAX_PING_BYTES and _is_ping(message):
            self._answer(message, self._ping_answer)
        elif self._jobs.waiting() >= _MAX_WAITING_COMMANDS:
            reason = f"{_MAX_WAITING_COMMANDS} commands are waiting. Send the command again later."
            self._answer(message, _refusal(ErrorCode.OVERLOADED, reason))
        else:
            self._jobs.put(lambda: self._do(message))

    def _do(self, message: Message) -> None:
        waited_s = time.monotonic() - message.arrived
        if self.commands is None or (message.expiry_s is not None and waited_s > message.expiry_s):
            _LOG.warning(
                "ignored a command that waited %.1f s, longer than its expiry interval", waited_s
            )
            return
        command: dict[str, Any] = {}
        try:
            command = decode_json(message.payload)
            answer = {"ok": True, **self.commands.answer(command)}
        except CommandError as error:
            _LOG.warning("refused %s: %s", command.get("command", "a command"), error)
            answer = _refusal(error.code, error.reason)
        except Exception as error:  # noqa: BLE001 - the host must get an answer
            _LOG.exception("command %s failed", command.get("command"))
            answer = _refusal(ErrorCode.BAD_COMMAND, f"The agent failed: {error!r}. See its log.")
        # The network thread may have changed a deployment, but not yet the subscriptions. A host
        # may send requests as soon as it reads the new state in the answer.
        self._update_subscriptions()
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
            _LOG.warning(
                "cannot send the answer to a command on the topic %r: %s",
                message.response_topic,
                error,
            )


def _is_ping(message: Message) -> bool:
    try:
        return decode_json(message.payload).get("command") == "ping"
    except CommandError:
        return False


def _refusal(code: ErrorCode, reason: str) -> dict[str, Any]:
    return {"ok": False, "code": str(code), "reason": reason}
