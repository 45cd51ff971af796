"""State between requests: found in the model, never replicated, and reset for each request."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import state_models
from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner
from tflite_models import FlatModel, chain_of_adds

from edge_core.contract.manifest import NEEDS_ROUTE, NEEDS_STATE, Manifest
from edge_partition.boards.deploy_bundle import DeploymentRefusedError, _check_needs
from edge_partition.bundles.bundle import BundleError, read_bundle
from edge_partition.bundles.run_bundle import chain_stages, reference_payloads
from edge_partition.bundles.verify_bundle import ComparisonError, verify_bundle
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.cli import app
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan import Plan
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.find_state import say_state
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_partition.bundles.bundle import Bundle


def bundle_of(
    data: bytes, path: Path, *, cuts: Sequence[int] | None = None, state: str = "reset"
) -> Bundle:
    model = read_tflite(data)
    boards = equal_fleet(1 if cuts is None else len(cuts) + 1)
    return write_bundle(
        path,
        model,
        plan_split(model.graph, boards, cuts=cuts or ()),
        name="Model",
        deployment="model",
        quantization="as-given",
        weights="trained",
        state=state,
    )


def inputs(count: int) -> list[bytes]:
    random = np.random.default_rng(3)
    return [
        random.normal(size=state_models.SHAPE).astype(np.float32).tobytes() for _ in range(count)
    ]


def run(data: bytes, payloads: list[bytes], *, anew: bool) -> list[bytes]:
    """Run the runtime's interpreter, a new one for each input or one for all inputs."""
    answers, interpreter = [], None
    for payload in payloads:
        if anew or interpreter is None:
            interpreter = Interpreter(model_content=data)
            interpreter.allocate_tensors()
        given = np.frombuffer(payload, np.float32).reshape(state_models.SHAPE)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
        interpreter.invoke()
        made = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        answers.append(made.tobytes())
    return answers


def kinds_with_state(data: bytes) -> list[str]:
    graph = read_tflite(data).graph
    return [graph.operators[position].kind for position in sorted(graph.stateful)]


# Found


def test_an_assigned_variable_and_its_users_are_state() -> None:
    touching = ["VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"]
    assert kinds_with_state(state_models.accumulator()) == touching


def test_a_variable_that_is_only_read_is_no_state() -> None:
    assert kinds_with_state(state_models.only_read()) == []
    # Of two variables only the one that is assigned counts.
    graph = read_tflite(state_models.assigned_elsewhere()).graph
    (first, *_), names = sorted(graph.stateful), [op.kind for op in graph.operators]
    assert names[first] == "VAR_HANDLE"
    assert first > names.index("READ_VARIABLE")


def test_a_variable_that_a_called_subgraph_assigns_is_state() -> None:
    assert "IF" in kinds_with_state(state_models.assigned_in_a_branch())


def test_variable_tensors_are_state() -> None:
    graph = read_tflite(state_models.svdf()).graph
    assert [graph.operators[position].kind for position in graph.stateful] == ["SVDF"]
    assert graph.keeps_state(0, 3)
    assert graph.keeps_state(1, 2)
    assert not graph.keeps_state(0, 1)
    assert not graph.keeps_state(2, 3)


def test_a_random_generator_is_state_only_with_a_seed() -> None:
    assert kinds_with_state(state_models.random_numbers(5)) == ["RANDOM_UNIFORM"]
    assert kinds_with_state(state_models.random_numbers(0)) == []


def test_a_hash_table_is_no_state() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    table, keys, found = (
        flat.tensor("table", (1,), "resource"),
        flat.constant("keys", np.arange(4, dtype=np.int32)),
        flat.tensor("found"),
    )
    flat.operator("HASHTABLE", [], [table])
    flat.operator("HASHTABLE_FIND", [table, keys, x], [found])
    graph = read_tflite(flat.to_bytes([x], [flat.add(found, x, "out")])).graph
    assert graph.cuts == (2,)  # The table's operators are one stage's all the same.
    assert graph.stateful == frozenset()


def test_the_sentence_on_state_names_the_operators_and_the_mode() -> None:
    graph = read_tflite(state_models.chain()).graph
    for mode, says in (
        ("", "unless the model is split with --state keep"),
        ("reset", "Each request starts from the initial state"),
        ("keep", "one client at a time"),
    ):
        text = say_state(graph, mode)
        assert "SVDF" in text
        assert "ASSIGN_VARIABLE" in text
        assert says in text
    assert say_state(read_tflite(chain_of_adds()).graph) == ""


# In the manifest


@pytest.mark.parametrize("state", ["reset", "keep"])
def test_the_manifest_has_the_stages_with_state_and_the_mode(tmp_path: Path, state: str) -> None:
    bundle = bundle_of(state_models.chain(), tmp_path / "build", cuts=[1, 2, 7], state=state)
    manifest = bundle.manifest
    assert [stage.state for stage in manifest.stages] == [True, False, True, False]
    assert [manifest.state_of(stage) for stage in manifest.stages] == [state, "", state, ""]
    assert (manifest.model.state, manifest.needs) == (state, (NEEDS_ROUTE, NEEDS_STATE))
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_model_without_state_requires_only_routes(tmp_path: Path) -> None:
    bundle = bundle_of(chain_of_adds(), tmp_path / "build", cuts=[1], state="keep")
    assert (bundle.manifest.model.state, bundle.manifest.needs) == ("", (NEEDS_ROUTE,))
    assert "state" not in bundle.manifest.to_json()


def test_the_two_modes_of_state_give_two_generations(tmp_path: Path) -> None:
    one, other = (
        bundle_of(state_models.svdf(), tmp_path / state, state=state).manifest.generation
        for state in ("reset", "keep")
    )
    assert one != other


def test_a_plan_with_replicas_of_a_stateful_stage_is_refused(tmp_path: Path) -> None:
    model = read_tflite(state_models.svdf())
    boards = equal_fleet(2).devices
    plan = Plan.of(model.graph, [(boards, 0, 3)])
    with pytest.raises(BundleError, match="2 replicas of stage 0, which keeps state"):
        write_bundle(
            tmp_path / "build",
            model,
            plan,
            name="Model",
            deployment="model",
            quantization="as-given",
            weights="trained",
        )


# Run


@pytest.mark.parametrize(
    ("data", "cuts"),
    [
        (state_models.accumulator(), [5]),
        (state_models.svdf(), [1, 2]),
        (state_models.svdf(), None),
        (state_models.svdf(first=2.0), [1, 2]),
        (state_models.chain(), [1, 2, 7]),
        (state_models.random_numbers(5), [1]),
    ],
    ids=[
        *("resource variable", "variable tensor", "in one part", "started with a constant"),
        *("both", "random"),
    ],
)
def test_loaded_stages_equal_new_interpreters_or_one_fed_in_order(
    tmp_path: Path, data: bytes, cuts: list[int] | None
) -> None:
    payloads = inputs(6)
    expected = {
        "reset": run(data, payloads, anew=True),
        "keep": run(data, payloads, anew=False),
    }
    # So a leak would show, and a state that is lost.
    assert expected["reset"][0] == expected["keep"][0]
    assert all(
        one != other for one, other in zip(expected["reset"][1:], expected["keep"][1:], strict=True)
    )
    for state, answers in expected.items():
        bundle = bundle_of(data, tmp_path / state, cuts=cuts, state=state)
        assert chain_stages(bundle, payloads) == answers
        verification = verify_bundle(bundle, payloads)
        assert verification.exact
        assert verification.state == state
        assert verification.output_spread > 0
        assert reference_payloads(bundle) == reference_payloads(bundle)


def test_a_state_that_leaks_from_one_input_to_the_next_fails_verification(tmp_path: Path) -> None:
    bundle = bundle_of(state_models.chain(), tmp_path / "build", cuts=[1, 2, 7])
    assert verify_bundle(bundle).exact
    # As an agent that knows nothing of state would serve the second part.
    stages = tuple(
        replace(stage, state=stage.state and stage.index == 0) for stage in bundle.manifest.stages
    )
    leaking = replace(bundle, manifest=replace(bundle.manifest, stages=stages))
    verification = verify_bundle(leaking)
    assert not verification.exact
    assert verification.identical == 1  # The first input finds no state yet.


def test_verification_refuses_a_model_of_unknown_state(tmp_path: Path) -> None:
    bundle = bundle_of(state_models.accumulator(), tmp_path / "build")
    stages = tuple(replace(stage, state=False) for stage in bundle.manifest.stages)
    old = replace(
        bundle,
        manifest=replace(
            bundle.manifest, stages=stages, model=replace(bundle.manifest.model, state="")
        ),
    )
    with pytest.raises(
        ComparisonError, match=r"older version of edge-partition wrote the bundle, split"
    ):
        verify_bundle(old)
    unseeded = bundle_of(state_models.random_numbers(0), tmp_path / "unseeded")
    with pytest.raises(ComparisonError, match="draws random numbers without a seed"):
        verify_bundle(unseeded)


# On the command line


def command(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "chain.tflite"
    path.write_bytes(state_models.chain())
    return path


def test_inspect_split_and_verify_report_that_a_model_keeps_state(
    model_file: Path, tmp_path: Path
) -> None:
    assert "keeps state from one request to the next (ASSIGN_VARIABLE," in command(
        "inspect", model_file
    )
    assert "SVDF" in json.loads(command("inspect", model_file, "--json"))["state"]
    build = tmp_path / "build"
    for options, says, verified in (
        ((), "Each request starts from the initial state", "kept no state of an earlier input"),
        (("--state", "keep"), "one client at a time", "got the inputs in the same order"),
    ):
        assert says in command("split", model_file, "--stages", 3, *options, "-o", build)
        assert verified in command("verify", build)
    model_file.write_bytes(chain_of_adds())
    assert "state" not in command("inspect", model_file)
    said = command("split", model_file, "--stages", 1, "--state", "keep", "-o", build)
    assert "keeps no state" in said


def test_a_fleet_of_equal_boards_gets_no_replicas_of_a_stateful_model(
    model_file: Path, tmp_path: Path
) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text("".join(f'[[device]]\nname = "board-{place}"\n' for place in range(4)))
    boards = {}
    for name, data in (("stateful", state_models.chain()), ("plain", chain_of_adds())):
        model_file.write_bytes(data)
        plan = json.loads(command("plan", model_file, "--fleet", fleet, "--json"))
        boards[name] = max(len(stage["devices"]) for stage in plan["stages"])
    assert boards == {"stateful": 1, "plain": 4}


def test_a_sample_file_is_checked_against_the_models_inputs_and_kept(
    model_file: Path, tmp_path: Path
) -> None:
    sample, build = tmp_path / "x.npy", tmp_path / "build"
    values = np.arange(8, dtype=np.float32).reshape(2, 4)  # Two inputs: the first is taken.
    np.save(sample, values)
    command("split", model_file, "--stages", 2, "--sample", sample, "-o", build)
    assert read_bundle(build).sample() == values[0].tobytes()
    said = command("verify", build)
    assert "8/8 identical" in said
    assert "The first input is the sample of `split --sample`." in said
    np.save(sample, np.zeros((1, 5), np.float32))
    refused = CliRunner().invoke(
        app, ["split", str(model_file), "--stages", "2", "--sample", str(sample), "-o", str(build)]
    )
    assert refused.exit_code != 0
    assert "x.npy" in str(refused.exception)
    assert "[1, 4]" in str(refused.exception)


# An agent of another version


def test_an_agent_without_support_for_needs_is_refused_before_it_serves(tmp_path: Path) -> None:
    manifest = bundle_of(state_models.svdf(), tmp_path / "build").manifest
    _check_needs(manifest, "pi-1", {"artifacts": [], "needs": ["state", "route"]})
    with pytest.raises(
        DeploymentRefusedError, match=r"pi-1 refused deployment [a-z-]+: its agent is too old"
    ) as old:
        _check_needs(manifest, "pi-1", {"artifacts": []})
    assert old.value.code == "unknown-need"
    plain = bundle_of(chain_of_adds(), tmp_path / "plain").manifest
    with pytest.raises(DeploymentRefusedError, match="too old and does not support route"):
        _check_needs(plain, "pi-1", {"artifacts": [], "needs": ["state"]})
    # A manifest of the version before routes is served.
    _check_needs(replace(plain, needs=()), "pi-1", {"artifacts": []})
