from __future__ import annotations

import math
from typing import Any

import pytest

from edge_partition.planning.agent_limits import (
    limit_difference,
    read_ram_limit_mib,
    with_agent_limit,
)
from edge_partition.planning.fleet import Device


@pytest.mark.parametrize("value", [None, True, "128", -1, 0, math.nan, math.inf, [128]])
def test_a_profile_message_without_a_limit_in_mib_has_none(value: Any) -> None:
    assert read_ram_limit_mib({"ram_mib": value}) is None
    assert read_ram_limit_mib({}) is None


def test_the_agents_limit_replaces_a_smaller_and_a_larger_one() -> None:
    for file_mib in (64, 300, math.inf):
        device = with_agent_limit(
            Device("pi", ram_mib=file_mib), read_ram_limit_mib({"ram_mib": 128})
        )
        assert device.ram_mib == 128
    assert with_agent_limit(Device("pi", ram_mib=300), None).ram_mib == 300


def test_a_difference_names_the_board_both_limits_and_the_one_in_use() -> None:
    assert limit_difference(Device("pi", ram_mib=300), 128) == (
        "pi: 300 MiB of RAM in the fleet file, 128 MiB in its agent's --ram-mib; plans use the "
        "agent's limit."
    )
    assert (limit_difference(Device("pi"), 128) or "").startswith("pi: no RAM limit in the fleet")
    assert limit_difference(Device("pi", ram_mib=128), 128.0) is None
    assert limit_difference(Device("pi", ram_mib=128), None) is None
