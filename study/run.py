"""Make the results of the study that are missing or stale, as ``make study`` does, and write its tables.

A run is made in a clone inside DVC's own folder, which shares the cache: what runs have in common is computed once.
"""

import fnmatch
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm
from typer import Option

from few_labels.artifacts import replacing
from few_labels.errors import InputError
from stages import run as run_command
from study import image_sets, peers, tabulate, tabulate_few_labels, tabulate_image_sets, tabulate_labelling_views
from study.plan import Run, list_runs, read_pipeline, read_plan, take_fingerprint
from tools.clones import OWN_IMAGES, check_out, reproduce, share_cache, write_parameters
from tools.git import find_commit, git, list_changes
from tools.verify import name_processor

CLONE, ENCODERS = Path(".dvc/tmp/study"), Path("encoders")
# What runs come to is written there, and decides none of them.
WRITTEN = ("study/", "metrics/", "docs/", "README.md")


def main(
    only: Annotated[list[str] | None, Option(help="runs, or patterns such as recipe_*; all without")] = None,
    seed: Annotated[list[int] | None, Option(help="a seed, or more; all without")] = None,
) -> None:
    plan, pipeline = read_plan(), read_pipeline()
    wanted = choose(list_runs(plan), only or [], seed or [])
    fingerprints = {run: take_fingerprint(pipeline, run) for run in wanted}
    to_do = [run for run in wanted if not is_current(run.result, fingerprints[run])]
    if to_do:
        prepare()
    for run in tqdm(to_do, unit="run"):
        with replacing(run.result) as temporary:
            temporary.write_text(json.dumps(make(run, fingerprints[run]), indent=2) + "\n")
    tabulate.main()
    tabulate_few_labels.main()
    tabulate_image_sets.main()
    tabulate_labelling_views.main()


def choose(runs: list[Run], patterns: list[str], seeds: list[int]) -> list[Run]:
    """Choose runs by name and seed.

    Parameters
    ----------
    runs : list of Run
    patterns : list of str
        As of file names; none stands for all runs but those that are made by name only.
    seeds : list of int
        None stands for all.

    Returns
    -------
    list of Run

    Raises
    ------
    InputError
        If there is no such run.
    """
    named = [run for run in runs if (matches(run, patterns) if patterns else not run.by_name_only)]
    chosen = [run for run in named if not seeds or run.seed in seeds]
    if not chosen:
        raise InputError(f"--only {patterns} --seed {seeds} names no run, allowed are those of study/runs.yaml")
    return chosen


def matches(run: Run, patterns: list[str]) -> bool:
    """Tell whether a run's name is as one of some patterns of file names has it."""
    return any(fnmatch.fnmatch(run.name, pattern) for pattern in patterns)


def is_current(result: Path, fingerprint: str) -> bool:
    """Tell whether a result is there, and made by the code as it is."""
    return result.exists() and json.loads(result.read_text())["fingerprint"] == fingerprint


def prepare() -> None:
    """Bring the clone to what is committed, with the cache of the project."""
    if changed := [path for path in list_changes(Path()) if not path.startswith(WRITTEN)]:
        raise InputError(f"{', '.join(changed)} not as committed, and results are of what is committed: commit first")
    check_out(CLONE)
    share_cache(CLONE)


def make(run: Run, fingerprint: str) -> dict[str, Any]:
    """Run the pipeline in the clone, and give what it came to and how it was made.

    Returns
    -------
    dict
        How it was made: ``fingerprint``, ``settings``, ``revision``, ``processor`` and ``date``. ``metrics`` are the
        pipeline's, or the peers' accuracies; ``clustering`` has ``n_clusters`` and ``inertia``; ``audit`` has each
        model's accuracy on the images that were kept for it, if any.
    """
    parameters = write_parameters(CLONE, run.settings_with_seed)
    place_images(run)
    made = {
        "fingerprint": fingerprint,
        "settings": run.settings,
        "revision": find_commit("HEAD"),
        "processor": name_processor(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if run.last_stage:
        reproduce(CLONE, run.last_stage)
        return made | {"metrics": peers.grade_run(CLONE / "data", parameters)}
    reproduce(CLONE)
    kmeans = joblib.load(CLONE / "models/kmeans.joblib")
    return made | {
        "metrics": json.loads((CLONE / "metrics/metrics.json").read_text()),
        "clustering": {"n_clusters": kmeans.n_clusters, "inertia": round(kmeans.inertia_, 1)},
        "audit": grade_audit(CLONE / "data"),
    }


def place_images(run: Run) -> None:
    """Have the clone hold the images of a run, with the encoder it asks for, or none but the pipeline's own."""
    git("-C", str(CLONE), "clean", "-ffdxq", "--", str(OWN_IMAGES), str(ENCODERS))
    if run.images:
        image_sets.place(run.images, run.seed, CLONE / OWN_IMAGES)
        for encoder in ENCODERS.glob(f"{run.parameters.embed.encoder}.onnx"):
            os.link(encoder, CLONE / encoder)


def grade_audit(data: Path) -> dict[str, float]:
    """Give each model's accuracy on the audit images; nothing where there are none."""
    audit = pd.read_csv(data / "audit_labels.csv")
    if audit.empty:
        return {}
    return {
        model: round(float((scores[audit["index"]].argmax(axis=1) == audit["label"]).mean()), 6)
        for model in ("logreg", "nn")
        for scores in [np.load(data / f"{model}_pool_scores.npy", mmap_mode="r")]
    }


if __name__ == "__main__":
    run_command(main)
