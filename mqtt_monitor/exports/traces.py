"""Sends requests as traces over OTLP/HTTP, with OpenTelemetry's own SDK and exporter."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from edge_core.errors import EdgePartitionError
from mqtt_monitor.exports.request_spans import split_request
from mqtt_monitor.fleet.read_values import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from edge_core.contract.topics import Topics
    from mqtt_monitor.fleet.snapshot import Request

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
_TRACES_PATH = "/v1/traces"
#: The most spans that wait to be sent: about 200 requests of three stages. If more spans wait, the
#: oldest are dropped.
_MAX_QUEUED_SPANS = 2048
_SEND_EVERY_MS = 1000
_TIMEOUT_S = 5.0
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([\w ]{1,80})")


class TraceEndpointError(EdgePartitionError):
    """The URL of the server that receives traces is invalid."""


def find_endpoint(option: str | None, environ: Mapping[str, str]) -> str:
    """Return the URL to which traces are posted.

    The URL is the first of these that is set: ``option``, OpenTelemetry's environment variables for
    traces and for all data, ``DEFAULT_ENDPOINT``. If the URL has no path, ``/v1/traces`` is added.

    Args:
        option: The URL from the command line; None: not given.
        environ: Environment variables.

    Raises:
        TraceEndpointError: The URL is invalid.
    """
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    url = option or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not url:
        url = base.rstrip("/") + _TRACES_PATH if base else DEFAULT_ENDPOINT
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None:
        shown = url.rpartition("@")[2] if "@" in url else url
        raise TraceEndpointError(
            f"The endpoint {shown!r} is not valid; expected http[s]://HOST[:PORT][/PATH], such as "
            f"{DEFAULT_ENDPOINT}. Put a password into OTEL_EXPORTER_OTLP_HEADERS, not into the URL."
        )
    return url if parts.path.strip("/") else url.rstrip("/") + _TRACES_PATH


class TraceExport:
    """Sends requests as traces, in a thread of its own. A context manager."""

    def __init__(
        self, endpoint: str, topics: Topics, service: str, report: Callable[[str], None]
    ) -> None:
        """Start the thread.

        Args:
            endpoint: URL of the receiver, from :func:`find_endpoint`.
            topics: The fleet's topics.
            service: The service name in the traces.
            report: Called with a sentence for the user when the receiver begins to refuse traces,
                and when the receiver accepts traces again.
        """
        self._topics = topics
        self._exporter = _ReportingExporter(endpoint, report)
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=_MAX_QUEUED_SPANS,
                schedule_delay_millis=_SEND_EVERY_MS,
            )
        )
        self._tracer = self._provider.get_tracer("mqtt-monitor")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Send the waiting spans, unless the receiver refused the last spans; end the thread."""
        self._exporter.closing.set()
        self._provider.shutdown()

    def add(self, request: Request) -> None:
        """Hand a request's trace to the sending thread; do not wait until the trace is sent.

        A request without a valid latency has no trace.
        """
        spans = split_request(request, self._topics)
        if not spans:
            return
        whole, *parts = spans
        root = self._tracer.start_span(
            whole.name,
            kind=SpanKind[whole.kind.upper()],
            attributes=whole.attributes,
            start_time=whole.start_ns,
        )
        context = set_span_in_context(root)
        for part in parts:
            self._tracer.start_span(
                part.name,
                context=context,
                kind=SpanKind[part.kind.upper()],
                attributes=part.attributes,
                start_time=part.start_ns,
            ).end(part.end_ns)
        if request.error is not None:
            root.set_status(Status(StatusCode.ERROR, request.error))
        root.end(whole.end_ns)


class _ReportingExporter(SpanExporter):
    """Sends spans by OTLP, and reports when sending begins to fail and when it succeeds again."""

    def __init__(self, endpoint: str, report: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._report = report
        self._failing = False
        self._log = _FirstMessage()
        # OpenTelemetry's exporter logs each failed attempt. The user sees one line for all of them.
        log = logging.getLogger("opentelemetry")
        log.propagate = False
        log.handlers = [logging.NullHandler()]
        logging.getLogger("opentelemetry.exporter").addHandler(self._log)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S)
        self.closing = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; see the base class."""
        if self._failing and self.closing.is_set():
            return SpanExportResult.FAILURE
        self._log.text = None
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            why = f" ({self._log.text})" if self._log.text else ""
            self._report(
                f"{self._endpoint} does not accept traces{why}. Check that the receiver runs. "
                "Traces are lost until the receiver accepts them."
            )
        elif self._failing and not failed:
            self._report(f"{self._endpoint} accepts traces again.")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Shut down; see the base class."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _FirstMessage(logging.Handler):
    """A log handler that keeps the text of the first message and ignores later messages.

    Attributes:
        text: The text; None: no message yet.
    """

    text: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of the first message."""
        if self.text is None:
            with contextlib.suppress(Exception):
                message = record.getMessage()
                # For a refused connection, the message lists a whole chain of exceptions. The
                # operating system's error is enough.
                system = _SYSTEM_ERROR.search(message)
                self.text = system[1] if system else read_text(message)
