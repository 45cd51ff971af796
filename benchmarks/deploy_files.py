"""Deploy `.tflite` files, each in one or more stages, with the code of any checkout.

    PYTHONPATH=CHECKOUT python benchmarks/deploy_files.py --broker URL add.tflite=add:pi-1

An argument `FILE=DEPLOYMENT:BOARD[+BOARD][,BOARD...]` names the boards of each stage. A `,`
separates stages, and a `+` separates the replicas of one stage. The script uses only functions of
`edge_partition` that older commits have too. So a benchmark can deploy to the agents of an older
commit with the code of that commit.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import edge_partition as ep
from edge_core.contract.topics import DEFAULT_PREFIX
from edge_core.mqtt.broker_address import BrokerAddress
from edge_partition.planning.fleet import Device, Fleet
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.bundles.bundle import Bundle


def write_stages(file: Path, folder: Path, name: str, stages: Sequence[Sequence[str]]) -> Bundle:
    """Write a model's bundle, with one stage for each group of boards.

    Args:
        file: The ``.tflite`` file.
        folder: Folder of the bundle.
        name: Name of the deployment.
        stages: For each stage, the names of its boards. More than one name means replicas.
    """
    from edge_partition.bundles.write_bundle import write_bundle  # noqa: PLC0415 -- slow
    from edge_partition.planning.plan import Plan  # noqa: PLC0415
    from edge_partition.planning.plan_split import plan_split  # noqa: PLC0415

    model = read_tflite(file, name=file.stem)
    lone = Fleet(tuple(Device(boards[0], threads=1) for boards in stages))
    plan = plan_split(model.graph, lone, stages=len(stages))
    if any(len(boards) > 1 for boards in stages):
        devices = [[Device(board, threads=1) for board in boards] for boards in stages]
        places = [
            (group, stage.start, stage.stop)
            for group, stage in zip(devices, plan.stages, strict=True)
        ]
        plan = Plan.of(model.graph, places, wires=plan.wires, objective=plan.objective)
    return write_bundle(
        folder,
        model,
        plan,
        name=file.stem,
        deployment=name,
        quantization="none",
        weights="seeded",
    )


def deploy_file(
    file: Path,
    name: str,
    stages: Sequence[Sequence[str]],
    broker: BrokerAddress,
    *,
    prefix: str = DEFAULT_PREFIX,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_stages(file, Path(folder) / "build", name, stages)
        ep.deploy_bundle(bundle, broker, prefix=prefix)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="+", metavar="FILE=DEPLOYMENT:BOARDS")
    parser.add_argument("--broker", required=True, metavar="URL")
    parser.add_argument("--ca-file", help="PEM file of the certificate to trust, for TLS")
    parser.add_argument("--prefix", default=DEFAULT_PREFIX)
    options = parser.parse_args()
    broker = BrokerAddress.parse(options.broker, ca_file=options.ca_file)
    for word in options.words:
        file, _, rest = word.partition("=")
        name, _, boards = rest.partition(":")
        stages = [group.split("+") for group in boards.split(",")]
        deploy_file(Path(file), name, stages, broker, prefix=options.prefix)


if __name__ == "__main__":
    main()
