"""The class :class:`Pipeline`: runs a deployed model and returns results in input order.

:class:`Pipeline` converts inputs and outputs. The module
:mod:`~edge_partition.client.send_requests` sends the requests, repeats them and waits for answers.
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
    """Runs the model of a live deployment like a model on this machine.

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
        """Create a client without a connection; ``with`` or :meth:`open` connects.

        Args:
            deployment: Name of a live deployment.
            broker: The broker's URL or address; None: the URL in the environment variable
                ``EDGE_PARTITION_BROKER``, or a broker on this machine if the variable is not set.
            window: Largest number of requests that a stream has in flight. None: each stream finds
                a number that keeps the boards busy (:mod:`edge_partition.client.adaptive_window`).
                For a model that keeps state between requests, the only valid number is 1.
            timeout_s: Time after which a request without an answer fails, in seconds.
            prefix: The first levels of all topics; must be equal to the agents' option ``prefix``.

        Raises:
            EdgePartitionError: The window is less than 1.
            BrokerAddressError: The broker's URL or the password file cannot be used.
        """
        if window is not None and window < 1:
            raise EdgePartitionError(
                f"The window is {window}; expected 1 or more requests, or no window."
            )
        if isinstance(broker, str) or broker is None:
            broker = BrokerAddress.parse(broker or os.environ.get(BROKER_VARIABLE, DEFAULT_BROKER))
        self._window = window
        self._requests = RequestSender(deployment, broker, prefix=prefix, timeout_s=timeout_s)

    @property
    def manifest(self) -> Manifest:
        """The live manifest of the deployment; after :meth:`close`, the last live manifest.

        Raises:
            NotOpenError: The pipeline has never been open.
        """
        return self._requests.state.manifest

    def open(self) -> Self:
        """Connect to the broker and read the deployment's manifest.

        Raises:
            BrokerUnreachableError: No broker answers.
            BrokerRefusedError: The broker refuses the connection or a subscription.
            UnknownDeploymentError: No deployment of this name is live.
            ManifestError: The manifest can't be read.
        """
        self._requests.open()
        return self

    def close(self) -> None:
        """Disconnect; requests in flight fail with the code ``closed``."""
        self._requests.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(self, inputs: Inputs) -> Outputs:
        """Run the model on one input.

        Args:
            inputs: An array, a picture or a file for each of the model's inputs. For a model with
                several inputs: a dict by input name, or a list in the model's order.

                - An array with the input's shape and dtype, batch dimension included, is sent
                  unchanged.
                - A picture is a path, a Pillow image, or an array ``(height, width[, channels])``
                  of any size, uint8 or floats from 0 to 255. The client converts a picture as
                  ``manifest.inputs[0].pixels`` says.
                - A path may also name any other file that ``edge-partition run`` takes as an input.

        Returns:
            For a model with one output: an array with the output's shape and dtype. For a model
            with several outputs: a dict of such arrays by output name. If the model has a batch
            size above 1 and the input is one picture, the outputs have the batch size 1.

        Raises:
            PayloadError: An input has another shape or dtype.
            InputFileError: A file can't be read, or its content does not fit the model's input.
            PixelsError: A picture can't be converted, such as an array of floats from 0 to 1.
            NotOpenError: The pipeline is not open.
            RequestError: A board answered with an error, or no answer came within ``timeout_s``.
        """
        return next(iter(self.map([inputs])))

    def map(self, inputs: Iterable[Inputs]) -> Iterator[Outputs]:
        """Run the model on each input; yield outputs in input order.

        The method reads the next input only when one more request may be in flight. If an input
        fails, the method raises the same error as :meth:`infer`, and the iteration ends.

        Args:
            inputs: Inputs, each as for :meth:`infer`.
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
        """Run the model on each input, like :meth:`map`; yield results with latency and trace.

        Args:
            inputs: Inputs, each as for :meth:`infer`.
            on_error: ``"raise"``: if an input fails, raise its error. ``"yield"``: yield the error
                instead of the input's result, and continue. Two errors are raised with
                ``"yield"`` too: an error after which no request can succeed
                (:attr:`RequestError.is_final`), and the N-th timeout in a row. N is the number of
                requests that may be in flight.
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
        """Return what outputs mean: the labels, values or boxes that ``edge-partition run`` prints.

        Args:
            outputs: The outputs of one input, from :meth:`infer`, :meth:`map` or :meth:`stream`.
                The boxes of a :class:`Result` are in pixels of the input picture. All other boxes
                are in pixels of the model's input.
            top: Largest number of classes in the answer.

        Raises:
            OutputsError: The outputs are not the model's.
        """
        return explain_outputs(self.manifest, outputs, top=top)

    def labels(self, outputs: Result | Outputs, top: int = 5) -> list[tuple[str, float]]:
        """Return the labels with the highest scores.

        Args:
            outputs: The outputs of one input, as for :meth:`answer`.
            top: Largest number of labels.

        Returns:
            Pairs of label and score, best first. A score is a probability from 0 to 1 if the
            manifest gives the meaning of the scores (``manifest.outputs[0].scores``), else the
            model's value. The label of a class without a name is the class's index. The list is
            empty if no output has one score per class.

        Raises:
            OutputsError: The outputs are not the model's, or they belong to several inputs.
        """
        return best_labels(self.manifest, outputs, top=top)

    def _limit(self) -> int | None:
        """Return the largest number of requests in flight; None: the stream finds the number.

        Raises:
            NotOpenError: The pipeline is not open.
            EdgePartitionError: The model keeps state, and the window is more than one request.
        """
        if not self._requests.is_open:
            raise NotOpenError
        state = self._requests.state
        if not state.keeps_state:
            return self._window
        if (self._window or 1) > 1:
            raise EdgePartitionError(
                f"The window is {self._window}; expected 1, or no window. Deployment "
                f"{state.deployment!r} keeps state from one request to the next, so its requests "
                "are sent one at a time."
            )
        return 1

    def _submit(self, stream: _Stream, inputs: Inputs) -> None:
        """Send a request with the inputs; if that fails, the error is the request's answer."""
        try:
            taken = take_inputs(self.manifest, inputs)
        except EdgePartitionError as error:
            stream.window.add(Request(b"", TakenInputs({}), started=0, deadline=0, answer=error))
        else:
            stream.submit(taken)

    def _unbatch(self, taken: TakenInputs, answer: Outcome) -> Outcome:
        """Keep the outputs of one sample; remove those of the copies that filled its batch."""
        if not isinstance(answer, Result) or not taken.is_sample:
            return answer
        outputs = split_outputs(answer.outputs, 1, self.manifest.inputs)[0]
        return replace(answer, outputs=outputs, picture_size=taken.picture_size)


class _Stream:
    """The requests of one stream, and the limit of its requests in flight."""

    def __init__(self, requests: RequestSender, limit: int | None) -> None:
        self.window = StreamWindow()
        self._requests = requests
        self._limit = limit
        self._adaptive = AdaptiveWindow(requests.state.manifest.stages)
        #: Number of requests without an answer. The lock of ``requests`` guards this number.
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
        """Whether the oldest request has its answer."""
        return bool(self.window) and self.window.head.answer is not None

    @property
    def is_timed_out(self) -> bool:
        """Whether the last N requests timed out; N requests may be in flight at a time."""
        return self.window.is_timed_out(self._size)

    def submit(self, taken: TakenInputs) -> None:
        """Send a request; if the request can't be sent, the error is its answer.

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
        """Wait for the oldest request's answer; fail that request if its deadline has passed.

        Args:
            may_submit: Whether the wait also ends when the next input may be submitted.
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
