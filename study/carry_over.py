"""Take results for current whose code changed and whose numbers did not, shown by making some of them anew.

A fingerprint tells that code is other code, not that it computes anything else. After a change that is to move no
result, ``python -m study.carry_over --since <revision> --only 'recipe_*'`` makes one seed of what is named anew and,
where every number comes out as it was, gives the results of the other seeds their new fingerprint. Each says by which
runs it was confirmed.
"""

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from zipfile import ZipFile

from tqdm import tqdm
from typer import Option

from few_labels.artifacts import replacing
from few_labels.errors import InputError
from stages import run as run_command
from study.plan import Run, list_runs, read_pipeline, read_plan, take_fingerprint
from study.run import choose, is_current, make, matches, prepare
from tools.git import find_commit, git

NUMBERS = ("metrics", "clustering", "audit")


def main(
    since: Annotated[str, Option(help="the last revision at which they were current")],
    only: Annotated[list[str], Option(help="runs, or patterns such as recipe_*")],
    sample: Annotated[list[str] | None, Option(help="which of them to make anew; all without")] = None,
    seed: Annotated[int, Option(help="whose results are made anew")] = 42,
) -> None:
    stale = find_stale(choose(list_runs(read_plan()), only, []), since)
    sampled = [run for run in stale if run.seed == seed and matches(run, sample or ["*"])]
    if not sampled:
        named = ", ".join(sample or only)
        raise InputError(f"no result of {named} at seed {seed} was current at {since} and is not now")
    prepare()
    for run in tqdm(sampled, unit="run"):
        require_same(run, read(run), make(run, stale[run]))
    by = {"revision": find_commit("HEAD"), "runs": [f"{run.name}/{run.seed}" for run in sampled]}
    for run, fingerprint in stale.items():
        with replacing(run.result) as temporary:
            carried = read(run) | {"fingerprint": fingerprint, "confirmed": by}
            temporary.write_text(json.dumps(carried, indent=2) + "\n")
    print(f"{len(sampled)} results came out as they were, {len(stale)} are current again")


def find_stale(runs: list[Run], since: str) -> dict[Run, str]:
    """Find the results that were current at a revision and are not now, and give the fingerprint of each as of now."""
    pipeline = read_pipeline()
    now = {run: take_fingerprint(pipeline, run) for run in runs if run.result.exists()}
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        with ZipFile(io.BytesIO(git("archive", "--format=zip", find_commit(since)))) as tree:
            tree.extractall(root)
        before = read_pipeline(root)
        return {
            run: fingerprint
            for run, fingerprint in now.items()
            if not is_current(run.result, fingerprint) and is_current(run.result, take_fingerprint(before, run, root))
        }


def require_same(run: Run, found: dict[str, Any], made: dict[str, Any]) -> None:
    """Refuse to carry anything over where a number is another."""
    differing = [part for part in NUMBERS if found.get(part) != made.get(part)]
    if differing:
        raise InputError(
            f"{run.name} at seed {run.seed}: {', '.join(differing)} came out otherwise, so nothing is carried over: "
            "make study makes the results anew"
        )


def read(run: Run) -> dict[str, Any]:
    """Read a run's result."""
    return json.loads(run.result.read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_command(main)
