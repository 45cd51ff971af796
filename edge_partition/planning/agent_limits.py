"""Choose a board's memory limit: the agent's own (``--ram-mib``), or the fleet file's.

An agent refuses a stage that needs more memory than the agent's own limit, whatever the fleet file
says. The agent's limit may also be larger than the limit in the fleet file. So the agent's limit is
used if it is known.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_partition.planning.fleet import Device


def read_ram_limit_mib(profile: Mapping[str, Any]) -> float | None:
    """Return the memory limit in an agent's profile message, in MiB.

    The result is ``None`` if the message gives no limit, or if the limit in the message is not a
    finite number above 0.
    """
    limit_mib = profile.get("ram_mib")
    if isinstance(limit_mib, bool) or not isinstance(limit_mib, int | float):
        return None
    return float(limit_mib) if 0 < limit_mib < math.inf else None


def with_agent_limit(device: Device, agent_mib: float | None) -> Device:
    """Return the board with the memory limit of its agent, if this limit is known.

    Args:
        device: The board, with the limit of the fleet file.
        agent_mib: The agent's limit, in MiB. ``None`` if the agent has no limit, or if its limit is
            not known. The board then keeps the limit of the fleet file.
    """
    return device if agent_mib is None else replace(device, ram_mib=float(agent_mib))


def limit_difference(
    device: Device, agent_mib: float | None, used: str = "plans use the agent's limit"
) -> str | None:
    """Return a sentence that names the memory limits of the fleet file and of the agent.

    Args:
        device: The board, with the limit of the fleet file.
        agent_mib: The agent's limit, as for :func:`with_agent_limit`.
        used: The end of the sentence. It says which of the two limits is used.

    Returns:
        The sentence. ``None`` if the two limits are equal, or if the agent's limit is ``None``.
    """
    if agent_mib is None or agent_mib == device.ram_mib:
        return None
    here = f"{device.ram_mib:g} MiB of RAM" if math.isfinite(device.ram_mib) else "no RAM limit"
    return (
        f"{device.name}: {here} in the fleet file, {agent_mib:g} MiB in its agent's --ram-mib; "
        f"{used}."
    )
