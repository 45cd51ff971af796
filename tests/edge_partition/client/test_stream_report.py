from __future__ import annotations

import json

import numpy as np
import pytest

from edge_core.contract.messages import StageTrace
from edge_partition.client.result import Result
from edge_partition.client.stream_report import StageReport, StreamReport


def result(latency_ms: float, *trace: StageTrace) -> Result:
    return Result({"scores": np.zeros((1, 3), np.float32)}, latency_ms, trace)


def test_a_report_has_medians_by_stage_and_board() -> None:
    report = StreamReport.of(
        [
            result(10, StageTrace(0, "pi-1", 1, 4), StageTrace(1, "pi-2", 0, 5)),
            result(20, StageTrace(0, "pi-1", 3, 6), StageTrace(1, "pi-3", 2, 7)),
            result(60, StageTrace(0, "pi-1", 2, 50), StageTrace(1, "pi-2", 4, 9)),
        ],
        1.5,
    )
    assert report.requests == 3
    assert report.throughput_per_s == 2.0
    assert report.latency_median_ms == 20
    assert report.latency_p99_ms == pytest.approx(59.2)
    # One slow inference does not change a median.
    assert report.stages == (
        StageReport(0, "pi-1", 3, 2, 6),
        StageReport(1, "pi-2", 2, 2, 7),
        StageReport(1, "pi-3", 1, 2, 7),
    )


def test_a_report_without_results_counts_no_requests() -> None:
    report = StreamReport.of([], 0.0)
    assert (report.requests, report.throughput_per_s, report.stages) == (0, 0.0, ())


def test_the_document_is_json_with_the_throughput() -> None:
    document = StreamReport.of([result(10, StageTrace(0, "pi-1", 1, 4))], 0.5).document()
    read = json.loads(json.dumps(document))
    assert read["throughput_per_s"] == 2.0
    assert read["stages"] == [
        {"stage": 0, "device": "pi-1", "requests": 1, "queue_ms": 1.0, "invoke_ms": 4.0}
    ]
