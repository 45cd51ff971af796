"""Defines the thresholds for alerts and for highlighted values in all front ends.

``docs/monitoring/alerts.yml`` repeats some thresholds for Prometheus. A test checks that both files
have the same values.
"""

from __future__ import annotations

#: Share of a memory limit that must stay free.
MEMORY_MARGIN = 0.10
#: Relative difference from the plan beyond which a measured value is highlighted.
PLAN_MARGIN = 0.15
#: Smallest difference from the planned time that is an alert, in milliseconds. A smaller difference
#: may be noise of the timer.
SLOWER_BY_MS = 0.5
#: Largest clock offset without an alert, in seconds. With a larger offset the times in logs of
#: several boards cannot be compared, and certificates may count as invalid.
CLOCK_OFF_S = 2.0
#: A growing queue is an alert if it has at least this length.
LONG_QUEUE = 8
#: Number of queue lengths, one from each statistics message, that show whether a queue grows: half
#: a minute.
QUEUE_SAMPLES = 6
#: Time without statistics after which a board counts as silent, in seconds. An agent loads its
#: stages after it has come online and before it sends its first statistics.
SILENT_S = 30.0
#: Time after a new manifest in which boards may still serve the previous generation, in seconds.
GENERATION_GRACE_S = 15.0


def is_settled(since_s: float | None, now_s: float) -> bool:
    """Return whether the boards have had enough time to switch to the newest manifest.

    Args:
        since_s: Time of the manifest's last change, in seconds since the epoch; None: the manifest
            has not changed since the monitor started.
        now_s: The present time, in seconds since the epoch.
    """
    return since_s is None or now_s - since_s > GENERATION_GRACE_S
