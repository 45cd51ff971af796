"""Requests as OpenTelemetry traces, sent over OTLP/HTTP by the project's own SDK and exporter."""

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
#: Some 200 requests over three stages; of more that can't be sent the oldest are dropped.
_MAX_QUEUED_SPANS = 2048
_SEND_EVERY_MS = 1000
_TIMEOUT_S = 5.0
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([\w ]{1,80})")


class TraceEndpointError(EdgePartitionError):
    """The receiver's URL is none."""


def find_endpoint(option: str | None, environ: Mapping[str, str]) -> str:
    """Return the URL that traces are posted to.

    By the option, else by OpenTelemetry's own variables, else this machine's collector. A URL
    without a path gets OTLP's.

    Raises:
        TraceEndpointError: It can't be used.
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
            f"The endpoint {shown!r} can't be used; expected http[s]://HOST[:PORT][/PATH], such as "
            f"{DEFAULT_ENDPOINT}; secrets go into OTEL_EXPORTER_OTLP_HEADERS."
        )
    return url if parts.path.strip("/") else url.rstrip("/") + _TRACES_PATH


class TraceExport:
    """Sends requests as traces, in a thread of its own. A context manager."""

    def __init__(
        self, endpoint: str, topics: Topics, service: str, tell: Callable[[str], None]
    ) -> None:
        """Begin.

        Args:
            endpoint: Where to, from :func:`find_endpoint`.
            topics: The fleet's.
            service: The name that the traces stand under.
            tell: Called with a sentence when traces begin to get lost, and when they arrive again.
        """
        self._topics = topics
        self._exporter = _TellingExporter(endpoint, tell)
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
        """Send what waits, unless nobody takes it."""
        self._exporter.closing.set()
        self._provider.shutdown()

    def add(self, request: Request) -> None:
        """Send a request's trace; never waits."""
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


class _TellingExporter(SpanExporter):
    """OTLP's exporter, whose failures are told once each time they begin."""

    def __init__(self, endpoint: str, tell: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._tell = tell
        self._failing = False
        self._said = _FirstWord()
        # Its log has a line for every attempt.
        log = logging.getLogger("opentelemetry")
        log.propagate = False
        log.handlers = [logging.NullHandler()]
        logging.getLogger("opentelemetry.exporter").addHandler(self._said)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S)
        self.closing = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send; see the base class."""
        if self._failing and self.closing.is_set():
            return SpanExportResult.FAILURE
        self._said.text = None
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            why = f" ({self._said.text})" if self._said.text else ""
            self._tell(
                f"{self._endpoint} takes no traces{why}; those of requests meanwhile get lost, "
                "trying again"
            )
        elif self._failing and not failed:
            self._tell(f"{self._endpoint} takes traces again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """End; see the base class."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _FirstWord(logging.Handler):
    """Keeps the first thing said."""

    text: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if self.text is None:
            with contextlib.suppress(Exception):
                message = record.getMessage()
                # Of a refused connection it gives the whole chain of exceptions.
                system = _SYSTEM_ERROR.search(message)
                self.text = system[1] if system else read_text(message)
