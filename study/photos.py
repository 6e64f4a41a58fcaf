"""Compare pixels, patches and an encoder on a folder of real images in colour, of which few have a label.

The images are those of Debian's package tuxpaint-stamps-default: photos that were cut out, drawings and signs, in
folders by what they show. Each folder of at least `LEAST_IMAGES` is a class. A seed draws a third of them to grade
on, and moves the pipeline, so the spread over seeds has both in it. Nothing is tuned: settings are the defaults but
for those below, as many clusters as labels, and no label is spread, so that what differs is how the images are seen.
Which classifier answers, bought labels choose. It adds to the table what is not in it yet, so it can be stopped at
any time.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from shutil import move, rmtree
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from few_labels.artifacts import replacing
from few_labels.errors import InputError
from stages import run
from stages.download import DebianPackage, unpack_debian_package
from study.statistics import format_mean
from tools.clones import check_out, reproduce, share_cache, write_parameters
from tools.pages import format_markdown, write_table

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "study/photos"
STAMPS, CLONE = PROJECT / "study/runs/stamps", Path(".dvc/tmp/photos")
PACKAGE = DebianPackage(package="tuxpaint-stamps-default", folder="usr/share/tuxpaint/stamps")
SHA256 = "e9933c819e2e7c363ca54cde0438181dae38eddf1cbf17dd4cfaf917ca095801"
LEAST_IMAGES = 30
SEEDS, BUDGETS = [42, 1, 2], [20, 50, 200]
ENCODER = "efficientnet-lite0"
SHARED = {"download.dataset": "own", "percentile": "0", "evaluate.answer": "auto"}
# Each sees images of a size that suits it: patches of 7 pixels show parts of things, an encoder has a size of its own.
VIEWS = {
    "pixels": {"download.image_size": "32"},
    "patches": {"download.image_size": "32", "embed.method": "patches"},
    "encoder": {
        "download.image_size": "224",
        "embed.method": "encoder",
        "embed.encoder": ENCODER,
        "train_nn.architecture": "dense",
    },
}


def main() -> None:
    table: list[dict[Any, Any]] = []
    path = RESULTS / "results.csv"
    if path.exists():
        table = pd.read_csv(path).to_dict("records")
    done = {(row["view"], row["labels"], row["seed"]) for row in table}
    to_do = [(seed, view, n) for seed in SEEDS for view in VIEWS for n in BUDGETS if (view, n, seed) not in done]
    images = list_images() if to_do else []
    drawn = None
    for seed, view, n_labels in tqdm(to_do, unit="run"):
        if seed != drawn:
            prepare(images, seed)
            drawn = seed
        table.append({"view": view, "labels": n_labels, "seed": seed} | grade(view, n_labels, seed))
        with replacing(path) as temporary:
            pd.DataFrame(table).to_csv(temporary, index=False)
    write_table(RESULTS / "README.md", "results", format_results(pd.DataFrame(table)))


def list_images() -> list[Path]:
    """Have the images of all classes, by name.

    Raises
    ------
    InputError
        If they are not the ones that the results here are of.
    """
    if not STAMPS.exists():
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = unpack_debian_package(PACKAGE, Path(scratch))
            STAMPS.parent.mkdir(parents=True, exist_ok=True)
            move(unpacked, STAMPS)
    folders = {folder: sorted(folder.rglob("*.png")) for folder in sorted(STAMPS.iterdir()) if folder.is_dir()}
    found = [image for images in folders.values() if len(images) >= LEAST_IMAGES for image in images]
    seen = hashlib.sha256(b"".join(hashlib.sha256(image.read_bytes()).digest() for image in found)).hexdigest()
    if seen != SHA256:
        raise InputError(f"{PACKAGE.package}: its {len(found)} images have SHA-256 {seen}, the study's have {SHA256}")
    return found


def prepare(images: list[Path], seed: int) -> None:
    """Bring the clone to what is committed, with the encoder, and with a third of the images to grade on."""
    check_out(CLONE)
    share_cache(CLONE)
    model = f"encoders/{ENCODER}.onnx"
    (CLONE / model).unlink(missing_ok=True)
    os.link(PROJECT / model, CLONE / model)
    for part in ("train", "test"):
        rmtree(CLONE / "data/own" / part, ignore_errors=True)
    tested = draw_third(np.random.default_rng(seed), len(images))
    for image, is_tested in zip(images, tested, strict=True):
        name = image.relative_to(STAMPS)
        kept = CLONE / "data/own" / ("test" if is_tested else "train") / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.link(image, kept)


def draw_third(rng: np.random.Generator, n: int) -> np.ndarray:
    """Tell which of n images are to grade on."""
    return rng.permutation(n) < n // 3


def grade(view: str, n_labels: int, seed: int) -> dict[str, Any]:
    """Run the pipeline in the clone, and give the test accuracy of both classifiers and of the one that answers."""
    settings = SHARED | VIEWS[view]
    settings |= {"seed": str(seed), "n_clusters": str(n_labels), "select_labels.n_labels": str(n_labels)}
    write_parameters(CLONE, settings)
    reproduce(CLONE)
    metrics = json.loads((CLONE / "metrics/metrics.json").read_text())
    accuracy = {model: metrics[model]["accuracy"] for model in ("logreg", "nn")}
    return accuracy | {"answer": metrics["answer"], "accuracy": accuracy[metrics["answer"]]}


def format_results(table: pd.DataFrame) -> str:
    """Write a Markdown table: a line for each view, and the accuracy of what answers at each budget."""
    rows = []
    for view, of_view in table.groupby("view", sort=False):
        for what, column in (("the answer", "accuracy"), ("logistic regression", "logreg"), ("network", "nn")):
            cells = [format_mean(of_view[of_view["labels"] == n][column]) for n in BUDGETS]
            rows.append([str(view), what, *cells])
    return format_markdown(["seen as", "classifier", *(f" {n} labels" for n in BUDGETS)], rows)


if __name__ == "__main__":
    run(main)
