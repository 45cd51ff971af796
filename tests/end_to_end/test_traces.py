"""Requests of real boards as OpenTelemetry traces, at a real OTLP/HTTP receiver."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from any_topic import any_topic
from desk import BOARDS, PATIENCE_S, wait_until
from monitors import MONITOR, monitor, stream
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status as ProtoStatus

from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_partition.boards.deploy_bundle import Deployer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from desk import Desk

    from edge_partition.bundles.bundle import Bundle

from brokers import free_port


class Receiver:
    """Takes OTLP over HTTP as a collector does."""

    def __init__(self, port: int) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                usable = self.path == "/v1/traces"
                if usable:
                    receiver.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200 if usable else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    @property
    def spans(self) -> list[ProtoSpan]:
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def traces(self) -> dict[str, tuple[ProtoSpan, list[ProtoSpan]]]:
        """Request id -> its span and its parts."""
        spans = self.spans
        return {
            attributes(root)["messaging.message.conversation_id"]: (
                root,
                sorted(
                    (span for span in spans if span.parent_span_id == root.span_id),
                    key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano),
                ),
            )
            for root in spans
            if not root.parent_span_id
        }


def attributes(span: ProtoSpan) -> dict[str, Any]:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes
    }


def took_ms(span: ProtoSpan) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


@contextmanager
def tracing(url: str, port: int, log: Path) -> Iterator[subprocess.Popen[str]]:
    words = ["traces", "--broker", url, "--endpoint", f"http://127.0.0.1:{port}"]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [MONITOR, *words], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"traces go to http://127.0.0.1:{port}/v1/traces\n"
        yield process
    finally:
        started = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert time.monotonic() - started < 10


def test_a_streams_requests_become_traces_that_add_up_to_their_latency(
    three_boards: Desk, digits_bundle: Bundle, images: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    desk, reports = three_boards, {}
    with Deployer(desk.url) as deployer:
        deployer.deploy(digits_bundle)
    receiver = Receiver(port := free_port())
    try:
        with (
            Connection(BrokerAddress.parse(desk.url, environ={}), "test-traces") as connection,
            tracing(desk.url, port, tmp_path / "log"),
        ):

            def report(message: Any) -> None:
                document = json.loads(bytes(message.payload))
                reports[document["request"]] = document

            connection.subscribe(any_topic("edge/v1/client/+/trace"), report, timeout_s=PATIENCE_S)
            with stream(desk, images):
                wait_until(lambda: len(receiver.traces()) >= 3, "three traces")
        traces = receiver.traces()
    finally:
        receiver.close()
    assert set(traces) == set(reports)
    assert len([span for span in receiver.spans if not span.parent_span_id]) == len(traces)
    for request, (root, parts) in traces.items():
        told = reports[request]
        assert took_ms(root) == pytest.approx(told["latency_ms"], abs=0.001)
        assert sum(map(took_ms, parts)) == pytest.approx(told["latency_ms"], abs=0.001)
        assert all(part.trace_id == root.trace_id for part in parts)
        assert attributes(root)["edge_partition.deployment"] == "digits"
        assert attributes(root)["edge_partition.generation"] == digits_bundle.manifest.generation
        for kind, figure in (("invoke stage", "invoke_ms"), ("queue of stage", "queue_ms")):
            stages = [part for part in parts if part.name.startswith(kind)]
            assert [took_ms(part) for part in stages] == pytest.approx(
                [stage[figure] for stage in told["trace"]], abs=0.001
            )
            assert [attributes(part)["edge_partition.device"] for part in stages] == list(BOARDS)
            assert [attributes(part)["edge_partition.stage.index"] for part in stages] == [0, 1, 2]
        assert len([part for part in parts if part.name.startswith("wire")]) == 4
        assert abs(root.end_time_unix_nano / 1e9 - time.time()) < 120
    (resource,) = {
        item.value.string_value
        for item in receiver.requests[0].resource_spans[0].resource.attributes
        if item.key == "service.name"
    }
    assert resource == "edge-partition"
    assert (tmp_path / "log").read_text() == "mqtt-monitor: connected to the broker\n"


def test_without_a_receiver_it_says_so_once_and_goes_on(desk: Desk, tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()

    def send(connection: Connection, first: int, last: int) -> None:
        stage = {"stage": 0, "device": "pi-1", "queue_ms": 1.0, "invoke_ms": 2.0}
        for number in range(first, last):
            report = {"request": f"{number:032x}", "generation": None, "latency_ms": 5.0}
            report |= {"trace": [stage] * 8, "error": "expired" if number % 2 else None}
            payload = json.dumps(report).encode()
            connection.publish(any_topic(f"edge/v1/client/c{number}/trace", qos=0), payload)
            if not number % 100:
                time.sleep(0.3)  # A client tells of one request a second; here many would at once.

    with (
        Connection(BrokerAddress.parse(desk.url, environ={}), "test-traces") as connection,
        tracing(desk.url, port, log) as process,
    ):
        send(connection, 1, 201)
        wait_until(lambda: "does not accept traces" in log.read_text(), "its word for it")
        memory = psutil.Process(process.pid).memory_info().rss
        # 2,000 requests of 26 spans: 25 times what is kept.
        send(connection, 201, 2201)
        time.sleep(3)
        grown_mib = (psutil.Process(process.pid).memory_info().rss - memory) / 2**20
        assert grown_mib < 12, f"grew by {grown_mib:.1f} MiB"
        assert process.poll() is None
        lost, *_ = lines = log.read_text().splitlines()[1:]
        assert len(lines) == 1, lines
        assert f"http://127.0.0.1:{port}/v1/traces does not accept traces" in lost
        assert "(Connection refused)" in lost
        receiver = Receiver(port)
        try:
            wait_until(lambda: "accepts traces again" in log.read_text(), "the receiver")
            send(connection, 2201, 2203)
            wait_until(lambda: f"{2202:032x}" in receiver.traces(), "a new trace")
        finally:
            receiver.close()
        root, _ = receiver.traces()[f"{2201:032x}"]
        assert root.status.code == ProtoStatus.STATUS_CODE_ERROR
        assert attributes(root)["error.type"] == "expired"


@pytest.mark.parametrize(
    "url", ["ftp://h", "h:4318", "http://", "http://me:hunter2@h", "http://h:x"]
)
def test_an_endpoint_that_is_none_is_one_line(url: str) -> None:
    result = monitor("mqtt://127.0.0.1:1", "traces", "--endpoint", url)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "http[s]://HOST" in result.stderr
    assert "hunter2" not in result.stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from mqtt_monitor.cli import main; main(['traces'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "pip install 'edge-partition[monitor-otel]'" in result.stderr
