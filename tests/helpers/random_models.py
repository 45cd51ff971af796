"""Small random graphs with branches, and fleets of unequal boards, from a seed."""

from __future__ import annotations

import random

from edge_partition.planning.fleet import Device, Fleet
from edge_partition.tflite.graph import Graph, Operator, Tensor

MIB = 1 << 20


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - for repeatable tests, not for secrets


def random_graph(rng: random.Random, operator_count: int) -> Graph:
    """Return a graph: operators read their predecessor and some older activations."""
    tensors: list[Tensor] = []

    def add(name: str, size_bytes: int, *, is_constant: bool = False) -> int:
        shape = (size_bytes // 4,)
        tensors.append(Tensor(len(tensors), name, "float32", shape, size_bytes, is_constant))
        return len(tensors) - 1

    made = [add("input", 4 * rng.randint(1, 200_000))]
    shared = add("shared", 4 * rng.randint(1, MIB), is_constant=True)
    operators = []
    for index in range(operator_count):
        weights = add(f"weights-{index}", 4 * rng.randint(1, 2 * MIB), is_constant=True)
        constants = (weights, shared) if rng.random() < 0.3 else (weights,)
        older = rng.sample(made[-6:], rng.randint(0, min(2, len(made))))
        output = add(f"activation-{index}", 4 * rng.randint(1, 200_000))
        operators.append(
            Operator(
                index=index,
                kind="CONV_2D",
                inputs=tuple(dict.fromkeys([made[-1], *older])),
                outputs=(output,),
                macs=rng.randint(0, 150_000_000),
                weight_bytes=sum(tensors[constant].size_bytes for constant in constants),
                constants=constants,
                layer=f"layer-{index}",
            )
        )
        made.append(output)
    cuts = tuple(cut for cut in range(1, operator_count) if rng.random() < 0.85)
    return Graph("random", tuple(tensors), tuple(operators), (0,), (made[-1],), cuts)


def random_fleet(rng: random.Random, device_count: int, *, ram_mib: tuple[float, float]) -> Fleet:
    """Return boards, some of which are equal, so that some kinds have several boards."""
    devices: list[Device] = []
    for index in range(device_count):
        if devices and rng.random() < 0.3:
            twin = rng.choice(devices)
            figures = (twin.ram_mib, twin.storage_mib, twin.speed_gmac_s, twin.link_mbit_s)
            link_ms, cores = twin.link_ms, twin.cores
        else:
            figures = (
                rng.uniform(*ram_mib),
                rng.choice([1024, 1024, rng.uniform(10, 60)]),
                rng.uniform(1, 20),
                rng.choice([40.0, 90.0, 940.0, 5000.0]),
            )
            link_ms = rng.uniform(0.1, 1.5)
            # One core more than the four threads, for messages.
            cores = rng.choice([4.0, 5.0])
        ram, storage, speed, mbit = figures
        name = f"board-{index}"
        devices.append(Device(name, None, ram, storage, speed, 4, mbit, link_ms, cores=cores))
    return Fleet(tuple(devices))
