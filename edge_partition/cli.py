"""The command line of ``edge-partition``. Each command is one file in ``commands/``.

The exit status is 0 if the command succeeded, 1 if it failed, and 2 if the usage is wrong. An error
is one line on standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from edge_core.program.click_program import program, run_click_program

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Each command's line in ``edge-partition -h``, by the command's name.
COMMANDS = {
    "demo": "Split, deploy and run an example on this machine",
    "inspect": "Show a model's operators and possible cuts",
    "convert": "Convert a Keras model to one .tflite file",
    "profile": "Measure a model and the links on the boards",
    "plan": "Show the best split without writing a bundle",
    "simulate": "Forecast a plan's throughput and latency",
    "split": "Split a model over boards and write the bundle",
    "verify": "Compare a bundle's parts with the whole model, bit for bit",
    "deploy": "Make a bundle live on its boards",
    "undeploy": "End a deployment and delete its parts from the boards",
    "status": "Show boards and live deployments",
    "run": "Stream inputs through a live deployment",
}


@program("edge_partition.commands", COMMANDS)
def app() -> None:
    """Run one neural network over several small boards.

    Read a Keras or TFLite model, split it for your boards' memory, storage, speed and links,
    deploy the parts over MQTT, and get the whole model's answers, bit for bit.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    run_click_program("edge-partition", app, arguments)
