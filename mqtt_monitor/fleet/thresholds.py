"""Defines the thresholds of alerts and of highlighted values for all front ends.

``docs/monitoring/alerts.yml`` repeats some of them for Prometheus; a test compares both.
"""

from __future__ import annotations

#: Share of a memory limit that must stay free.
MEMORY_MARGIN = 0.10
#: Relative difference from the plan beyond which a measured value is highlighted.
PLAN_MARGIN = 0.15
#: Smallest difference from the plan that is an alert, in milliseconds: less is timer noise.
SLOWER_BY_MS = 0.5
#: Clock offset that is an alert, in seconds: logs of several boards can no longer be compared, and
#: certificates may count as invalid.
CLOCK_OFF_S = 2.0
#: Queue length from which a growing queue is an alert.
LONG_QUEUE = 8
#: Number of queue lengths that are compared: half a minute of statistics.
QUEUE_SAMPLES = 6
#: Time without statistics after which a board counts as silent, in seconds. An agent that just
#: came online loads its stages before its first statistics.
SILENT_S = 30.0
#: Time after a new manifest in which boards may still serve the previous generation, in seconds.
GENERATION_GRACE_S = 15.0


def is_settled(since_s: float | None, now_s: float) -> bool:
    """Return whether boards have had time to switch to a manifest.

    Args:
        since_s: Time of the manifest, in seconds since the epoch; None: before the monitor's start.
        now_s: The present time, in seconds since the epoch.
    """
    return since_s is None or now_s - since_s > GENERATION_GRACE_S
