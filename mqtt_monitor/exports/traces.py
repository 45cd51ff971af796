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
#: Most spans that may wait to be sent: about 200 requests of three stages. The oldest are dropped.
_MAX_QUEUED_SPANS = 2048
_SEND_EVERY_MS = 1000
_TIMEOUT_S = 5.0
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([\w ]{1,80})")


class TraceEndpointError(EdgePartitionError):
    """The receiver's URL is invalid."""


def find_endpoint(option: str | None, environ: Mapping[str, str]) -> str:
    """Return the URL that traces are posted to.

    The option comes first, then OpenTelemetry's variables, then ``DEFAULT_ENDPOINT``. A URL without
    a path gets the path of OTLP.

    Args:
        option: The URL from the command line.
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
            f"The endpoint {shown!r} is not valid: expected http[s]://HOST[:PORT][/PATH], such as "
            f"{DEFAULT_ENDPOINT}. Put secrets into OTEL_EXPORTER_OTLP_HEADERS."
        )
    return url if parts.path.strip("/") else url.rstrip("/") + _TRACES_PATH


class TraceExport:
    """Exports requests as traces, in its own thread. A context manager."""

    def __init__(
        self, endpoint: str, topics: Topics, service: str, report: Callable[[str], None]
    ) -> None:
        """Start the thread.

        Args:
            endpoint: The receiver's URL, from :func:`find_endpoint`.
            topics: The fleet's topics.
            service: The service name of the traces.
            report: Called with a sentence when the receiver starts to refuse traces, and when it
                accepts them again.
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
        """Send the waiting spans, unless the receiver refuses them."""
        self._exporter.closing.set()
        self._provider.shutdown()

    def add(self, request: Request) -> None:
        """Queue a request's trace; returns at once."""
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
    """OTLP's exporter; reports the first of several failures in a row."""

    def __init__(self, endpoint: str, report: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._report = report
        self._failing = False
        self._log = _FirstMessage()
        # The exporter logs every attempt; one line for all of them is enough.
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
                f"{self._endpoint} does not accept traces{why}; traces are lost until it does. "
                "Trying again."
            )
        elif self._failing and not failed:
            self._report(f"{self._endpoint} accepts traces again.")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Shut down; see the base class."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _FirstMessage(logging.Handler):
    """Keeps the first log message."""

    text: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first message."""
        if self.text is None:
            with contextlib.suppress(Exception):
                message = record.getMessage()
                # A refused connection is logged with its whole chain of exceptions.
                system = _SYSTEM_ERROR.search(message)
                self.text = system[1] if system else read_text(message)
