"""The client: takes inputs and gives each input's result once, in input order.

:class:`Pipeline` converts inputs and outputs. Requests are sent, sent again and awaited in
:mod:`~edge_partition.client.send_requests`.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self, overload

from edge_core.contract.topics import DEFAULT_PREFIX
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.broker_address import BROKER_VARIABLE, DEFAULT_BROKER, BrokerAddress
from edge_partition.client.adaptive_window import AdaptiveWindow
from edge_partition.client.errors import NotOpenError, is_final
from edge_partition.client.explain_outputs import best_labels, explain_outputs
from edge_partition.client.requests_in_flight import Request
from edge_partition.client.result import Result
from edge_partition.client.send_requests import RequestSender
from edge_partition.client.stream_window import StreamWindow
from edge_partition.inputs.batches import split_outputs
from edge_partition.inputs.take_inputs import TakenInputs, take_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edge_core.contract.manifest import Manifest
    from edge_partition.answers.answers import Answer
    from edge_partition.client.result import Outcome, Outputs
    from edge_partition.inputs.take_inputs import Inputs


class Pipeline:
    """A live deployment, used as if the whole model were on this machine.

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
        """Prepare a client; entering the context, or :meth:`open`, connects.

        Args:
            deployment: Name of a live deployment.
            broker: The broker's URL; by default ``EDGE_PARTITION_BROKER``, else this machine's.
            window: Most requests in flight of a stream; by default each stream finds the number
                that keeps the boards busy (:mod:`edge_partition.client.adaptive_window`), and 1
                for a model that keeps state between requests.
            timeout_s: Time after which a request without an answer fails, in seconds.
            prefix: The topics' prefix.
        """
        if window is not None and window < 1:
            raise EdgePartitionError(f"The window is {window}; expected 1 or more requests.")
        if isinstance(broker, str) or broker is None:
            broker = BrokerAddress.parse(broker or os.environ.get(BROKER_VARIABLE, DEFAULT_BROKER))
        self._window = window
        self._requests = RequestSender(deployment, broker, prefix=prefix, timeout_s=timeout_s)

    @property
    def manifest(self) -> Manifest:
        """The manifest that is live; after :meth:`close` the last one.

        Raises:
            NotOpenError: The pipeline was never open.
        """
        return self._requests.state.manifest

    def open(self) -> Self:
        """Connect and learn the deployment's manifest.

        Raises:
            BrokerUnreachableError: No broker answers.
            BrokerRefusedError: The broker refuses the connection or a subscription.
            UnknownDeploymentError: No deployment of this name is live.
        """
        self._requests.open()
        return self

    def close(self) -> None:
        """Disconnect; requests in flight fail."""
        self._requests.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(self, inputs: Inputs) -> Outputs:
        """Run the model on one input.

        Args:
            inputs: For a model with one input, an array of exactly its shape and dtype (batch
                dimension included), which is sent unchanged; or a picture, which is converted as
                the manifest says (``manifest.inputs[0].pixels``): a path, a Pillow image, or an
                array ``(height, width[, channels])`` of any size, uint8 or floats from 0 to 255.
                A path may also be any other file that ``edge-partition run`` takes as one input.
                For a model with several inputs, a mapping of such values by input name, or a
                list of them in the model's order.

        Returns:
            For a model with one output, an array of its shape and dtype; else a dict by name. A
            model that takes several pictures at once gives the first row for one picture.

        Raises:
            PayloadError: An input has another shape or dtype.
            InputFileError: A file can't be read, or is no input of the model.
            PixelsError: A picture can't become the input, such as floats from 0 to 1.
            NotOpenError: The pipeline is not open.
            RequestError: A board answered with an error, or no answer came within ``timeout_s``.
        """
        return next(iter(self.map([inputs])))

    def map(self, inputs: Iterable[Inputs]) -> Iterator[Outputs]:
        """Run the model on each input; yield outputs in input order.

        An input is taken from the iterable only when one more request may be in flight.
        Instead of a failed input's outputs, the error of :meth:`infer` is raised.
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
        """Run the model as :meth:`map` does; yield results with latency and trace.

        Args:
            inputs: Values as :meth:`infer` takes them.
            on_error: ``"raise"`` raises an input's error. ``"yield"`` yields the error in the
                input's place and continues. Two errors are raised nevertheless: an error after
                which no request can succeed (:attr:`RequestError.is_final`), and the N-th timeout
                in a row, where N is the number of requests that may be in flight.
        """
        stream = _Stream(self._requests, self._limit())
        iterator, is_more = iter(inputs), True
        try:
            while is_more or stream.window:
                if is_more and stream.has_room:
                    try:
                        item = next(iterator)
                    except StopIteration:
                        is_more = False
                    else:
                        self._submit(stream, item)
                    continue
                if not stream.is_head_answered:
                    stream.wait(may_submit=is_more)
                    continue
                answer = self._unbatch(*stream.window.take_head())
                if isinstance(answer, EdgePartitionError) and (
                    on_error == "raise" or is_final(answer) or stream.is_timed_out
                ):
                    raise answer
                yield answer
        finally:
            self._requests.discard(stream.window)

    def answer(self, outputs: Result | Outputs, *, top: int = 5) -> Answer:
        """Return the meaning of outputs: labels, values or boxes, as ``edge-partition run`` does.

        Args:
            outputs: Return value of :meth:`infer`, :meth:`map` or :meth:`stream`. Boxes of a
                :class:`Result` are in pixels of the input picture, other boxes in pixels of the
                model's input.
            top: Number of classes to name.

        Raises:
            OutputsError: The outputs are not the deployment's.
        """
        return explain_outputs(self.manifest, outputs, top=top)

    def labels(self, outputs: Result | Outputs, top: int = 5) -> list[tuple[str, float]]:
        """Return the best labels and their scores, best first; outputs as in :meth:`answer`.

        A score is a probability from 0 to 1 if the manifest gives the meaning of the scores
        (``manifest.outputs[0].scores``), else the model's value. A class without a label has
        its index as label. The list is empty where no output has one score per class.

        Raises:
            OutputsError: The outputs are not the deployment's, or are those of several inputs.
        """
        return best_labels(self.manifest, outputs, top=top)

    def _limit(self) -> int | None:
        """Return the number of requests in flight of a stream; None: the stream adapts it.

        Raises:
            NotOpenError: The pipeline is not open.
            EdgePartitionError: More than one place was asked for, with a model that keeps state.
        """
        if not self._requests.is_open:
            raise NotOpenError
        state = self._requests.state
        if not state.keeps_state:
            return self._window
        if (self._window or 1) > 1:
            raise EdgePartitionError(
                f"The window is {self._window}; deployment {state.deployment!r} keeps state from "
                "one request to the next, so its requests go one at a time: expected 1, or no "
                "window."
            )
        return 1

    def _submit(self, stream: _Stream, inputs: Inputs) -> None:
        """Send a request; for an input that can't be sent, the error is the answer."""
        try:
            taken = take_inputs(self.manifest, inputs)
        except EdgePartitionError as error:
            stream.window.add(Request(b"", TakenInputs({}), started=0, deadline=0, answer=error))
        else:
            stream.submit(taken)

    def _unbatch(self, taken: TakenInputs, answer: Outcome) -> Outcome:
        """Return an answer without the rows of the repeats that filled a batch."""
        if not isinstance(answer, Result) or not taken.is_sample:
            return answer
        outputs = split_outputs(answer.outputs, 1, self.manifest.inputs)[0]
        return replace(answer, outputs=outputs, picture_size=taken.picture_size)


class _Stream:
    """The requests of one stream, and the number of them that may be in flight."""

    def __init__(self, requests: RequestSender, limit: int | None) -> None:
        self.window = StreamWindow()
        self._requests = requests
        self._limit = limit
        self._adaptive = AdaptiveWindow(requests.state.manifest.stages)
        #: Requests without an answer; guarded by the lock of ``requests``.
        self._in_flight = 0

    @property
    def _size(self) -> int:
        return self._adaptive.size if self._limit is None else self._limit

    @property
    def has_room(self) -> bool:
        """Whether the next input may be submitted now."""
        return self.window.has_room(self._size)

    @property
    def is_head_answered(self) -> bool:
        """Whether the caller can get the oldest request's answer."""
        return bool(self.window) and self.window.head.answer is not None

    @property
    def is_timed_out(self) -> bool:
        """Whether the last N requests timed out; N is the number that may be in flight."""
        return self.window.is_timed_out(self._size)

    def submit(self, taken: TakenInputs) -> None:
        """Send a request; if it can't be sent, the error is its answer.

        Raises:
            NotOpenError: The pipeline is not open.
        """
        request = self._requests.make_request(taken, self._settled, self._adaptive.add_overloaded)
        self.window.add(request)
        with self._requests.lock:
            self._in_flight += 1
        try:
            self._requests.submit(request)
        except NotOpenError:
            raise
        except EdgePartitionError as error:
            with self._requests.lock:
                request.settle(error)

    def wait(self, *, may_submit: bool) -> None:
        """Wait for the oldest request's answer, or for room if ``may_submit``.

        A request that is not answered by its deadline fails.
        """
        head = self.window.head
        self._requests.wait_until(
            lambda: head.answer is not None or (may_submit and self.has_room), head.deadline
        )
        if head.answer is None and time.monotonic() >= head.deadline:
            self._requests.expire(head)

    def _settled(self, request: Request) -> None:
        in_flight = self._in_flight
        self._in_flight -= 1
        now = time.monotonic()
        latency_ms, answer = request.lone_latency_ms(now), request.answer
        if isinstance(answer, Result) and latency_ms is not None:
            self._adaptive.add_result(now, latency_ms, answer.trace, in_flight)
