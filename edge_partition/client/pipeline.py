"""The client: inputs in, results out, each exactly once and in order.

QoS 1 and a request id make "at least once"; stages are pure functions, so a request may be sent
again; repeats of a result are dropped here. Together the caller sees each result exactly once.
A request is sent again only after something was seen to go wrong (this client's connection was
lost, a board went or came back, one of a stage's replicas is away, a deployment was replaced),
never because a board is merely slow.
"""

from __future__ import annotations

import collections
import itertools
import os
import threading
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, overload

import numpy as np

from edge_core.contract.manifest import Manifest
from edge_core.contract.messages import (
    ERROR,
    GENERATION,
    TRACE,
    ErrorCode,
    StageTrace,
    decode_trace,
    encode_json,
)
from edge_core.contract.tensors import decode_tensors, encode_tensors
from edge_core.contract.topics import DEFAULT_PREFIX, ONLINE, Topics
from edge_core.errors import EdgePartitionError, ManifestError, PayloadError
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_core.mqtt.read_retained import read_retained
from edge_partition.answers.answers import Values, describe_answer
from edge_partition.inputs.take_inputs import TakenInputs, take_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from edge_core.mqtt.connection import Message
    from edge_partition.answers.answers import Answer
    from edge_partition.inputs.take_inputs import Inputs

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
BROKER_VARIABLE = "EDGE_PARTITION_BROKER"

#: How long an unsettled request waits before it is sent once more, in seconds: first, at most.
RESEND_FIRST_S = 0.5
RESEND_MAX_S = 4.0
#: Extra seconds a message lives in the broker beyond the client's own patience.
EXPIRY_SLACK_S = 1
#: How often monitors are told what a request took, in seconds: often enough to watch, and nothing
#: beside a stream of results.
_REPORT_EVERY_S = 1.0
_STATE_CODES = frozenset({ErrorCode.STATE_LOST, ErrorCode.STATE_TAKEN})

Outputs: TypeAlias = "np.ndarray | dict[str, np.ndarray]"


class UnknownDeploymentError(EdgePartitionError):
    """No manifest is live under a name.

    Attributes:
        deployment: The name asked for.
        live: The names that are live.
    """

    def __init__(self, deployment: str, live: Sequence[str]) -> None:
        self.deployment = deployment
        self.live = tuple(live)
        others = f"live are: {', '.join(live)}" if live else "nothing is deployed at this broker"
        super().__init__(
            f"No deployment {deployment!r}; {others}. `edge-partition deploy BUILD` makes one live."
        )


class NotOpenError(EdgePartitionError):
    """A pipeline was used before it was opened, or after it was closed."""

    def __init__(self) -> None:
        super().__init__(
            "This pipeline is not open; use it in a `with` block, or call open() first."
        )


class OutputsError(EdgePartitionError):
    """What was to be explained is no answer of the deployment, or not that of one input."""


class RequestError(EdgePartitionError):
    """A request was answered with an error, or not at all.

    Attributes:
        code: The agent's error code, or ``timeout``, ``undeployed``, ``replaced`` or ``closed``.
        trace: The stages that had run.
        is_final: Whether later requests of this pipeline will fail as well: it was undeployed or
            replaced, a kept state was lost, or the broker or a stage's boards are away.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        trace: tuple[StageTrace, ...] = (),
        *,
        is_final: bool = False,
    ) -> None:
        self.code = code
        self.trace = trace
        self.is_final = is_final
        super().__init__(reason)


@dataclass(frozen=True)
class Result:
    """One request's answer.

    Attributes:
        outputs: Arrays by output name, in the model's order; read-only views of the payload.
        latency_ms: From handing the request to the network until its result arrived.
        trace: What each stage took.
        picture_size: Width and height in pixels of the picture that went in, where the model finds
            boxes: :meth:`Pipeline.answer` gives them in its pixels.
    """

    outputs: dict[str, np.ndarray]
    latency_ms: float
    trace: tuple[StageTrace, ...]
    picture_size: tuple[int, int] | None = None


@dataclass
class _Request:
    id: bytes
    taken: TakenInputs
    generation: str
    started: float
    deadline: float
    resend_at: float | None = None
    resend_after_s: float = RESEND_FIRST_S
    answer: Result | EdgePartitionError | None = None


class Pipeline:
    """A live deployment, used as if it were the whole model on this machine.

    >>> with Pipeline("mobilenet-v3-large", "mqtt://127.0.0.1:1883") as pipeline:  # doctest: +SKIP
    ...     scores = pipeline.infer("photo.jpg")
    ...     print(pipeline.labels(scores))
    ...     for scores in pipeline.map(images):
    ...         ...
    """

    def __init__(
        self,
        deployment: str,
        broker: str | BrokerAddress | None = None,
        *,
        window: int | None = None,
        timeout_s: float = 30.0,
        prefix: str = DEFAULT_PREFIX,
    ) -> None:
        """Prepare a client; entering it, or :meth:`open`, connects.

        Args:
            deployment: The name of a live deployment.
            broker: The broker's URL; by default ``EDGE_PARTITION_BROKER``, else this machine's.
            window: Requests in flight at once; by default :func:`default_window`, and 1 for a
                model that keeps state between requests.
            timeout_s: After this long without an answer a request fails.
            prefix: The topics' prefix.
        """
        if window is not None and window < 1:
            raise EdgePartitionError(f"The window is {window}; expected 1 or more requests.")
        if isinstance(broker, str) or broker is None:
            broker = BrokerAddress.parse(broker or os.environ.get(BROKER_VARIABLE, DEFAULT_BROKER))
        self._deployment = deployment
        self._topics = Topics(prefix)
        self._timeout_s = timeout_s
        self._window = window
        client_id = f"edge-client-{uuid.uuid4().hex[:12]}"
        self._result_topic = self._topics.result(client_id)
        self._trace_topic = self._topics.trace(client_id)
        self._next_report = 0.0
        # The broker keeps results for as long as a request may take, should this client's
        # connection break meanwhile.
        self._connection = Connection(
            broker,
            client_id,
            session_expiry_s=int(timeout_s) + EXPIRY_SLACK_S,
            on_connected=self._unsettle,
        )
        self._manifest: Manifest | None = None
        self._is_open = False
        self._offline: set[str] = set()
        #: Code and reason of the error that every request gets: nothing is deployed any more.
        self._ended: tuple[str, str] | None = None
        self._changed = threading.Condition()
        self._requests: dict[bytes, _Request] = {}
        self._numbers = itertools.count(1)

    @property
    def manifest(self) -> Manifest:
        """The manifest that is live; after :meth:`close` the last one.

        Raises:
            NotOpenError: The pipeline was never open.
        """
        if self._manifest is None:
            raise NotOpenError
        return self._manifest

    def open(self) -> Self:
        """Connect and learn the deployment's manifest.

        Raises:
            BrokerUnreachableError: No broker there.
            BrokerRefusedError: The broker said no.
            UnknownDeploymentError: Nothing live under this name.
        """
        self._connection.open()
        try:
            self._connection.subscribe(self._result_topic, self._handle_result, timeout_s=10)
            found = read_retained(self._connection, self._topics.manifest("+"), self._result_topic)
            mine = self._topics.manifest(self._deployment)
            if mine not in found:
                raise UnknownDeploymentError(
                    self._deployment, sorted(self._topics.name_in(topic) for topic in found)
                )
            self._manifest = Manifest.from_json(found[mine])
            self._connection.subscribe(mine, self._handle_manifest, timeout_s=10)
            for device in {name for stage in self.manifest.stages for name in stage.devices}:
                self._connection.subscribe(
                    self._topics.availability(device), self._handle_availability, timeout_s=10
                )
        except BaseException:
            self._connection.close()
            raise
        self._is_open = True
        return self

    def close(self) -> None:
        """Disconnect; requests still in flight fail."""
        with self._changed:
            self._is_open = False
            self._fail_all("closed", "The pipeline was closed before the answer came.")
        self._connection.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(self, inputs: Inputs) -> Outputs:
        """Run the model on one input.

        Args:
            inputs: For a model with one input an array of exactly its shape and dtype (batch
                dimension included), which goes in as it is; or a picture, which becomes what the
                manifest says (``manifest.inputs[0].pixels``): a path, a Pillow image, or an array
                ``(height, width[, channels])`` of any size, uint8 or floats from 0 to 255. A path
                may also be any other file that ``edge-partition run`` takes as one input. For a
                model with several inputs a mapping of such by input name, or a list of them in
                the model's order.

        Returns:
            For a model with one output an array of its shape and dtype; else a dict by name. Of a
            model that takes several pictures at once, the first row where one picture was given.

        Raises:
            PayloadError: An input of another shape or dtype.
            InputFileError: A path's file can't be read, or is no input of the model.
            PixelsError: A picture that can't become the input, such as floats from 0 to 1.
            NotOpenError: The pipeline is not open.
            RequestError: The boards answered with an error, or not within ``timeout_s``.
        """
        return next(iter(self.map([inputs])))

    def map(self, inputs: Iterable[Inputs]) -> Iterator[Outputs]:
        """Run the model on each input; yield outputs in input order.

        Inputs are taken from the iterable only as places in the window become free.
        Raises as :meth:`infer` does, at the place of the input that failed.
        """
        for result in self.stream(inputs):
            outputs = result.outputs
            yield next(iter(outputs.values())) if len(outputs) == 1 else outputs

    @overload
    def stream(
        self, inputs: Iterable[Inputs], *, on_error: Literal["raise"] = "raise"
    ) -> Iterator[Result]: ...

    @overload
    def stream(
        self, inputs: Iterable[Inputs], *, on_error: Literal["yield"]
    ) -> Iterator[Result | EdgePartitionError]: ...

    def stream(
        self, inputs: Iterable[Inputs], *, on_error: Literal["raise", "yield"] = "raise"
    ) -> Iterator[Result | EdgePartitionError]:
        """As :meth:`map`, with each request's latency and trace.

        Args:
            inputs: As :meth:`infer` takes.
            on_error: ``"yield"`` gives the error of an input in its place, and goes on. Raised are
                then only errors after which no request can succeed
                (:attr:`RequestError.is_final`), and the last of a whole window of timeouts.
        """
        window = self._in_flight()
        waiting: collections.deque[_Request] = collections.deque()
        iterator, is_more, timeouts = iter(inputs), True, 0
        try:
            while is_more or waiting:
                # The window counts what is in flight, so a slow head doesn't idle the boards
                # only when later answers are already here.
                has_room = len(waiting) < window and not (waiting and waiting[0].answer is not None)
                if is_more and has_room:
                    try:
                        item = next(iterator)
                    except StopIteration:
                        is_more = False
                    else:
                        waiting.append(self._submit_or_refuse(item))
                    continue
                answer = self._take(waiting)
                if isinstance(answer, Result):
                    timeouts = 0
                else:
                    timeouts = timeouts + 1 if _is_timeout(answer) else 0
                    if on_error == "raise" or _is_final(answer) or timeouts >= window:
                        raise answer
                yield answer
        finally:
            with self._changed:
                for request in waiting:
                    self._requests.pop(request.id, None)

    def answer(self, outputs: Result | Outputs, *, top: int = 5) -> Answer:
        """Say what outputs mean, as ``edge-partition run`` does: labels, values or boxes.

        Args:
            outputs: What :meth:`infer`, :meth:`map` or :meth:`stream` gave. Boxes are in the
                pixels of the picture that went in where it is a :class:`Result`, else in those of
                the model's input.
            top: Classes to name.

        Raises:
            OutputsError: The outputs are not the deployment's.
        """
        size = None
        if isinstance(outputs, Result):
            size, outputs = outputs.picture_size, outputs.outputs
        named = _named_outputs(self.manifest, outputs)
        return describe_answer(self.manifest, named, top=top, picture_size=size)

    def labels(self, outputs: Result | Outputs, top: int = 5) -> list[tuple[str, float]]:
        """Return the best labels and their scores, best first; of outputs as :meth:`answer` has.

        A score is a probability from 0 to 1 where the manifest says what scores are
        (``manifest.outputs[0].scores``), else as the model gives it. A class without a label has
        its index as one. Empty where no output has one score a class.

        Raises:
            OutputsError: The outputs are not the deployment's, or those of several inputs.
        """
        answer = self.answer(outputs, top=top)
        if not answer.labels:
            _check_one_input(self.manifest, answer)
        return [(best.label, best.score) for best in answer.labels]

    # Sending

    def _in_flight(self) -> int:
        """Return how many requests may be in flight.

        Raises:
            NotOpenError: The pipeline is not open.
            EdgePartitionError: More than one was asked for, of a model that keeps state.
        """
        if not self._is_open:
            raise NotOpenError
        if not self._keeps_state:
            return self._window or default_window(self.manifest.boards)
        if (self._window or 1) > 1:
            raise EdgePartitionError(
                f"The window is {self._window}; deployment {self._deployment!r} keeps state from "
                "one request to the next, so that requests go one at a time: expected 1, or none."
            )
        return 1

    def _submit_or_refuse(self, inputs: Inputs) -> _Request:
        """As :meth:`_submit`; an input that can't be sent has its error as its answer."""
        try:
            return self._submit(inputs)
        except NotOpenError:
            raise
        except EdgePartitionError as error:
            return _Request(b"", TakenInputs({}), "", started=0, deadline=0, answer=error)

    def _submit(self, inputs: Inputs) -> _Request:
        manifest = self.manifest
        taken = take_inputs(manifest, inputs)
        now = time.monotonic()
        number = next(self._numbers)
        request = _Request(
            id=number.to_bytes(8, "big"),
            taken=taken,
            generation=manifest.generation,
            started=now,
            deadline=now + self._timeout_s,
        )
        with self._changed:
            if not self._is_open:
                raise NotOpenError
            if self._ended is not None:
                request.answer = RequestError(*self._ended, is_final=True)
                return request
            self._requests[request.id] = request
            if self._has_lost_a_replica():
                # The broker gives requests in turn to boards that are away, too.
                self._mark_unsettled(request, now)
        try:
            self._send(request)
        except EdgePartitionError:
            with self._changed:
                self._requests.pop(request.id, None)
            if self._keeps_state:
                # Boards that keep state know by its number which request comes next.
                self._numbers = itertools.count(number)
            raise
        return request

    def _send(self, request: _Request) -> None:
        manifest = self.manifest
        request.generation = manifest.generation
        self._connection.publish(
            self._topics.stage(self._deployment, 0),
            encode_tensors(manifest.stages[0].inputs, request.taken.arrays),
            response_topic=self._result_topic,
            correlation_data=request.id,
            expiry_s=int(request.deadline - time.monotonic()) + EXPIRY_SLACK_S,
            user={GENERATION: manifest.generation},
        )

    def _take(self, waiting: collections.deque[_Request]) -> Result | EdgePartitionError:
        """Wait for the oldest request's answer; send again meanwhile what is unsettled and due."""
        head = waiting[0]
        while head.answer is None:
            due: list[_Request] = []
            with self._changed:
                now = time.monotonic()
                times = [head.deadline]
                for request in waiting:
                    if request.answer is not None or request.resend_at is None:
                        continue
                    if request.resend_at <= now:
                        due.append(request)
                        request.resend_at = now + request.resend_after_s
                        request.resend_after_s = min(RESEND_MAX_S, 2 * request.resend_after_s)
                    times.append(request.resend_at)
                if not due and now < head.deadline:
                    self._changed.wait(min(times) - now)
            if head.answer is None and time.monotonic() >= head.deadline:
                head.answer = self._timed_out(head)
            if self._connection.is_connected:
                for request in due:
                    self._send(request)
        waiting.popleft()
        with self._changed:
            self._requests.pop(head.id, None)
        if isinstance(head.answer, Result):
            return self._of_sample(head.answer, head.taken)
        return head.answer

    def _of_sample(self, result: Result, taken: TakenInputs) -> Result:
        """Return a result without what answers the repeats that filled a batch."""
        if not taken.is_sample:
            return result
        from edge_partition.inputs.load_inputs import split_outputs  # noqa: PLC0415 -- Pillow

        outputs = split_outputs(result.outputs, 1, self.manifest.inputs)[0]
        return replace(result, outputs=outputs, picture_size=taken.picture_size)

    def _timed_out(self, request: _Request) -> RequestError:
        stages = [
            f"{', '.join(stage.devices)} (stage {stage.index})"
            for stage in self.manifest.stages
            if set(stage.devices) <= self._offline
        ]
        if not self._connection.is_connected:
            cause = f"the broker at {self._connection.address.url} is out of reach"
        elif stages:
            cause = f"offline: {'; '.join(stages)}"
        else:
            cause = (
                "every board is said to be online; `edge-partition status "
                f"{self._deployment}` asks each whether it answers, and a longer timeout or fewer "
                "requests in flight may help"
            )
        waited_s = time.monotonic() - request.started
        reason = f"No answer within {waited_s:.1f} s: {cause}."
        is_final = bool(stages) or not self._connection.is_connected or self._keeps_state
        return RequestError("timeout", reason, is_final=is_final)

    @property
    def _keeps_state(self) -> bool:
        return self.manifest.model.state == "keep"

    # Receiving, in the network thread

    def _handle_result(self, message: Message) -> None:
        now = time.monotonic()
        with self._changed:
            request = self._requests.get(message.correlation_data)
            if request is None or request.answer is not None:
                return
            trace = decode_trace(message.user.get(TRACE))
            code = message.user.get(ERROR)
            if code is None:
                try:
                    outputs = decode_tensors(self.manifest.outputs, bytes(message.payload))
                except PayloadError as error:
                    request.answer = RequestError(ErrorCode.BAD_PAYLOAD, str(error), trace)
                else:
                    request.answer = Result(outputs, (now - request.started) * 1000, trace)
            elif code in {ErrorCode.UNKNOWN_GENERATION, ErrorCode.STOPPING}:
                # A deployment is being replaced, or its board restarts: the next attempt finds
                # the generation that is live by then.
                self._mark_unsettled(request, now)
            else:
                reason = bytes(message.payload).decode("utf-8", "replace")
                # A kept state that a request may have missed is no state to go on with.
                is_final = code in _STATE_CODES or self._keeps_state
                request.answer = RequestError(code, reason, trace, is_final=is_final)
            self._changed.notify_all()
        self._report(request, message, trace, now)

    def _report(
        self, request: _Request, message: Message, trace: tuple[StageTrace, ...], now: float
    ) -> None:
        """Tell monitors what a request took, of the first one each second.

        The whole latency is known here alone, and a monitor need not have results copied to it.
        """
        if now < self._next_report:
            return
        self._next_report = now + _REPORT_EVERY_S
        report = {
            "request": request.id.hex(),
            "generation": message.user.get(GENERATION),
            "latency_ms": round((now - request.started) * 1000, 3),
            "error": message.user.get(ERROR),
            "trace": [vars(stage) for stage in trace],
        }
        self._connection.publish(self._trace_topic, encode_json(report))

    def _handle_manifest(self, message: Message) -> None:
        with self._changed:
            if not message.payload:
                self._end("undeployed", f"Deployment {self._deployment!r} was undeployed.")
                return
            try:
                manifest = Manifest.from_json(bytes(message.payload))
            except ManifestError:
                return
            if manifest.inputs != self.manifest.inputs or manifest.outputs != self.manifest.outputs:
                self._end(
                    "replaced",
                    f"Deployment {self._deployment!r} was replaced by a model with other inputs or "
                    "outputs; open a new pipeline.",
                )
                return
            self._manifest = manifest
            self._ended = None

    def _handle_availability(self, message: Message) -> None:
        device = self._topics.name_in(message.topic)
        if message.payload != ONLINE:
            self._offline.add(device)
        else:
            self._offline.discard(device)
        if not message.retained:
            self._unsettle()

    def _unsettle(self) -> None:
        """Note that messages may have been lost, so that requests in flight are sent again."""
        with self._changed:
            now = time.monotonic()
            for request in self._requests.values():
                self._mark_unsettled(request, now)
            self._changed.notify_all()

    def _has_lost_a_replica(self) -> bool:
        """Whether a stage has boards that are offline beside others that are not."""
        return any(
            0 < len(self._offline.intersection(stage.devices)) < len(stage.devices)
            for stage in self.manifest.stages
        )

    def _mark_unsettled(self, request: _Request, now: float) -> None:
        request.resend_after_s = RESEND_FIRST_S
        request.resend_at = now + RESEND_FIRST_S

    def _end(self, code: str, reason: str) -> None:
        """Fail the requests in flight, and those to come until the deployment is back."""
        self._ended = code, reason
        self._fail_all(code, reason)

    def _fail_all(self, code: str, reason: str) -> None:
        for request in self._requests.values():
            if request.answer is None:
                request.answer = RequestError(code, reason, is_final=True)
        self._changed.notify_all()


def _is_timeout(error: EdgePartitionError) -> bool:
    return isinstance(error, RequestError) and error.code == "timeout"


def _is_final(error: EdgePartitionError) -> bool:
    return isinstance(error, RequestError) and error.is_final


def _named_outputs(manifest: Manifest, outputs: Any) -> dict[str, np.ndarray]:
    """Return outputs by name, as a result has them.

    Raises:
        OutputsError: They are not the deployment's.
    """
    names = [spec.name for spec in manifest.outputs]
    if not isinstance(outputs, dict):
        if len(names) == 1:
            return {names[0]: _as_output(names[0], outputs)}
        given = "One array" if isinstance(outputs, np.ndarray) else type(outputs).__name__
        raise OutputsError(f"{given} given; expected a dict with an array for each of {names}.")
    missing = [name for name in names if name not in outputs]
    if missing:
        raise OutputsError(f"The outputs lack {missing}; expected an array for each of {names}.")
    return {name: _as_output(name, outputs[name]) for name in names}


def _as_output(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:  # Lists of unequal lengths.
        array = np.asarray(None)
    if array.dtype.kind in "OSU":
        raise OutputsError(
            f"{type(value).__name__} given for output {name!r}; expected what infer, map or stream "
            "gave: an array, a dict of arrays by output name, or a Result."
        )
    return array


def _check_one_input(manifest: Manifest, answer: Answer) -> None:
    """Refuse outputs that have a row of scores for each of several inputs.

    Raises:
        OutputsError: They do.
    """
    for spec, output in zip(manifest.outputs, answer.outputs, strict=True):
        rows = output.held.shape[0] if output.held.shape else 0
        are_rows = rows > 1 and output.held.values.size == rows * output.held.shape[-1]
        are_scores = bool(spec.scores) or output.held.shape[-1:] == (len(manifest.model.labels),)
        is_stack = spec.shape != output.held.shape and spec.shape[1:] == output.held.shape[1:]
        is_stack |= all(taken.shape[:1] == (rows,) for taken in manifest.inputs)
        if isinstance(output, Values) and are_rows and (are_scores or is_stack):
            raise OutputsError(
                f"Output {spec.name!r} has {rows} rows, one for each of several inputs; labels are "
                "those of one: give a row at a time, `labels(row)`."
            )


def default_window(boards: int) -> int:
    """Return how many requests are kept in flight: two a board, at least 4 and at most 16.

    Measured: more only grows the broker's queues.
    """
    return min(16, max(4, 2 * boards))
