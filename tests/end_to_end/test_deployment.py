"""Two phases: all boards or none, and a live deployment continues."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from desk import BOARDS, make_bundle, wait_until

from edge_core.contract.tensors import encode_tensors
from edge_partition.boards.board_client import UnknownBoardError
from edge_partition.boards.deploy_bundle import Deployer, DeploymentRefusedError
from edge_partition.client.errors import UnknownDeploymentError
from edge_partition.client.pipeline import Pipeline
from edge_partition.model.load_model import load_model

if TYPE_CHECKING:
    from desk import Desk

    from edge_partition.bundles.bundle import Bundle

Images = list[dict[str, np.ndarray]]


def serves(desk: Desk, bundle: Bundle, image: dict[str, np.ndarray], expected: bytes) -> bool:
    with Pipeline(bundle.manifest.deployment, desk.url) as pipeline:
        (result,) = pipeline.stream([image])
        assert pipeline.manifest.generation == bundle.manifest.generation
    return encode_tensors(bundle.manifest.outputs, result.outputs) == expected


def test_every_board_reports_the_same_bits_for_its_reference(
    three_boards: Desk, digits_bundle: Bundle
) -> None:
    with Deployer(three_boards.url) as deployer:
        loaded = deployer.deploy(digits_bundle)
        status = deployer.status()
    assert [(stage.device, stage.max_difference) for stage in loaded] == [
        (name, 0) for name in BOARDS
    ]
    assert [board.device for board in status.boards if board.online] == list(BOARDS)
    assert [
        [(item["deployment"], item["state"]) for item in board.deployments]
        for board in status.boards
    ] == [[("digits", "live")]] * 3


def test_one_refusal_changes_nothing_and_the_live_deployment_continues(
    desk: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    # The third board has no memory for more than the agent itself.
    for name in BOARDS[:2]:
        desk.start_agent(name)
    desk.start_agent("board-2", "--ram-mib", "48")
    whole = load_model(str(digits_bundle.whole_file))
    small = make_bundle(whole, desk.folder / "small", stages=2)
    with Deployer(desk.url) as deployer:
        deployer.deploy(small)
        with pytest.raises(DeploymentRefusedError, match=r"board-2 .* MiB") as caught:
            deployer.deploy(digits_bundle)
        status = deployer.status()
    assert caught.value.device == "board-2"
    assert caught.value.code == "no-memory"
    assert [manifest.generation for manifest in status.manifests] == [small.manifest.generation]
    held = [item for board in status.boards for item in board.deployments]
    assert {item["generation"] for item in held} == {small.manifest.generation}
    assert serves(desk, small, images[0], whole_outputs[0])


def test_a_board_that_dies_while_it_loads_ends_the_deployment_at_once(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    whole = load_model(str(digits_bundle.whole_file))
    live = make_bundle(whole, three_boards.folder / "live", stages=1)
    deaths: list[threading.Timer] = []

    def die_once_the_files_are_there(device: str, have_bytes: int, all_bytes: int) -> None:
        if device == "board-1" and have_bytes == all_bytes:
            # A stopped process can't answer the next command.
            three_boards.agents[device].send_signal(signal.SIGSTOP)
            deaths.append(threading.Timer(0.5, three_boards.kill_agent, [device]))
            deaths[-1].start()

    with Deployer(three_boards.url) as deployer:
        deployer.deploy(live)
        with pytest.raises(DeploymentRefusedError, match="went offline before it answered"):
            deployer.deploy(digits_bundle, on_progress=die_once_the_files_are_there)
        status = deployer.status()
    deaths[0].join()
    assert [board.device for board in status.boards if not board.online] == ["board-1"]
    assert [manifest.generation for manifest in status.manifests] == [live.manifest.generation]
    assert serves(three_boards, live, images[0], whole_outputs[0])


def test_an_offline_board_is_named_before_anything_is_sent(
    desk: Desk, digits_bundle: Bundle
) -> None:
    desk.start_agent("board-0")
    with (
        Deployer(desk.url) as deployer,
        pytest.raises(
            UnknownBoardError, match="Not online: board-1, board-2; boards online: board-0"
        ),
    ):
        deployer.deploy(digits_bundle)
    assert "prepar" not in desk.log("board-0").read_text()


def test_deploying_the_same_bundle_again_changes_nothing(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    with Deployer(three_boards.url) as deployer:
        deployer.deploy(digits_bundle)
        deployer.deploy(digits_bundle)
    assert serves(three_boards, digits_bundle, images[0], whole_outputs[0])


def test_undeploy_leaves_nothing_at_the_broker_or_on_the_boards(
    three_boards: Desk, digits_bundle: Bundle
) -> None:
    with Deployer(three_boards.url) as deployer:
        deployer.deploy(digits_bundle)
        deployer.undeploy("digits")
        status = deployer.status()
        assert status.manifests == ()
        assert [board.deployments for board in status.boards] == [(), (), ()]
        with pytest.raises(UnknownDeploymentError, match="nothing is deployed"):
            deployer.undeploy("digits")
    assert not list(three_boards.folder.glob("board-*/**/*.tflite"))


def test_a_board_that_missed_the_undeploy_does_not_bring_it_back(
    three_boards: Desk, digits_bundle: Bundle
) -> None:
    with Deployer(three_boards.url) as deployer:
        deployer.deploy(digits_bundle)
        three_boards.kill_agent("board-0")
        deployer.undeploy("digits", force=True)
    # The broker also drops board-0's session, as after a minute offline.
    three_boards.broker.restart()
    for name in BOARDS[1:]:
        wait_until(lambda name=name: three_boards.is_online(name), f"{name} online")
    three_boards.start_agent("board-0")
    log = three_boards.log("board-0")
    wait_until(lambda: "undeployed while" in log.read_text(), "board-0 to say what it holds")
    with Deployer(three_boards.url) as deployer:
        assert deployer.status().manifests == ()
        deployer.undeploy("digits")
        assert [board.deployments for board in deployer.status().boards] == [(), (), ()]


def test_undeploy_refuses_while_a_board_is_offline_unless_forced(
    three_boards: Desk, digits_bundle: Bundle
) -> None:
    with Deployer(three_boards.url) as deployer:
        deployer.deploy(digits_bundle)
        assert three_boards.stop_agent("board-2") == 0
        with pytest.raises(UnknownBoardError, match="board-2"):
            deployer.undeploy("digits")
        assert deployer.status().manifests != ()
        deployer.undeploy("digits", force=True)
        assert deployer.status().manifests == ()
