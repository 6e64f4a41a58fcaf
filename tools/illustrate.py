"""Draw the pictures of docs/how-it-works.md from what the last run left: clusters, what spreads, where it errs.

What a picture was drawn from stands in it, by hash, so that a test can tell whether it is of the committed run.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from few_labels.artifacts import (
    UNKNOWN,
    Clustering,
    LabelledImages,
    load_classes,
    load_clustering,
    load_images,
    load_labelled,
    load_labels,
    load_scores,
    replacing,
)
from few_labels.sheets import PAPER, draw_sheet, shorten, tile
from few_labels.stored import Rows
from stages import run
from tools.models import read_locked

FOLDER = Path("docs/pictures")
# Which files of the run each picture shows.
INPUTS = {
    "clusters": ["data/train_images.npy", "data/clustering.npz", "data/bought_labels.csv", "data/train_labels.npy"],
    "spreading": ["data/clustering.npz", "data/bought_labels.csv", "data/train_labels.npy"],
    "mistakes": ["data/test_images.npy", "data/test_labels.npy", "data/nn_test_scores.npy"],
}
CLASSES = "data/classes.json"
SHOWN_PER_CLUSTER = 16
N_MISTAKES = 30
N_BANDS = 20


def main() -> None:
    # Pictures of another run than the one that dvc.lock records would show what nobody can make again.
    read_locked(sorted({CLASSES}.union(*INPUTS.values())))
    classes = load_classes(Path(CLASSES)).class_names
    images, clustering = load_images(Path("data/train_images.npy")), load_clustering(Path("data/clustering.npz"))
    bought = load_labelled(Path("data/bought_labels.csv"), len(images), len(classes))
    truth = load_labels(Path("data/train_labels.npy"))
    test_images, test_labels = load_images(Path("data/test_images.npy")), load_labels(Path("data/test_labels.npy"))
    scores = load_scores(Path("data/nn_test_scores.npy"), len(test_images), len(classes))
    percentile = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["percentile"]
    figures = {
        "clusters": draw_clusters(images, clustering, bought, truth, classes, percentile),
        "spreading": draw_spreading(grade_by_distance(clustering, bought, truth), percentile),
        "mistakes": draw_mistakes(test_images, test_labels, scores, classes),
    }
    sources = hashes(Path("dvc.lock"))
    for name, figure in figures.items():
        with replacing(FOLDER / f"{name}.png") as temporary:
            figure.savefig(temporary, metadata={"Software": None, "Source": describe_source(sources, name)})
        print(FOLDER / f"{name}.png")


def hashes(lock: Path) -> dict[str, str]:
    """Read the MD5 of every output from dvc.lock."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def describe_source(sources: Mapping[str, str], name: str) -> str:
    """Name what a picture is drawn from, with hashes, as it stands in its file."""
    return json.dumps({path: sources[path] for path in INPUTS[name]}, indent=1)


def read_source(picture: Path) -> str:
    """Give what a picture says that it was drawn from."""
    with Image.open(picture) as image:
        return str(image.info["Source"])


def draw_clusters(
    images: Rows,
    clustering: Clustering,
    bought: LabelledImages,
    truth: NDArray[np.integer],
    class_names: list[str],
    percentile: float,
) -> Figure:
    """Show the largest cluster of each class from its centroid outwards, and where its label is wrong.

    Parameters
    ----------
    images : ndarray or Stored of shape (n_images, height, width, channels), uint8
    clustering : Clustering
    bought : LabelledImages
    truth : ndarray of shape (n_images,), integer
        -1 where nobody knows.
    class_names : list of str
    percentile : float
        How far a label spreads; a line is drawn there.

    Returns
    -------
    Figure
        A row a class: the bought image, then images at even steps of rank.
    """
    rows, captions = [], []
    for label, class_name in enumerate(class_names):
        members = largest_cluster(clustering, bought, label)
        if members is None:
            continue
        steps = np.linspace(0, len(members) - 1, SHOWN_PER_CLUSTER).round().astype(int)
        wrong = (truth[members] != label) & (truth[members] != UNKNOWN)
        rows.append((members[steps], wrong[steps]))
        captions.append(f"{shorten(class_name)}\n{len(members)} images, {np.mean(~wrong):.0%} right")
    shown = np.concatenate([members for members, _ in rows])
    padded = np.pad(images[shown], [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=PAPER)
    _, height, width, _ = padded.shape
    figure = Figure(figsize=(14, 0.4 + 0.7 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(tile(padded, len(rows), SHOWN_PER_CLUSTER), interpolation="nearest")
    for row, (_, wrong) in enumerate(rows):
        for column in np.flatnonzero(wrong):
            corner = column * width, row * height
            axes.add_patch(Rectangle(corner, width - 1, height - 1, fill=False, edgecolor="tab:red", linewidth=2.5))
    axes.set_yticks([height * (row + 0.5) for row in range(len(rows))], captions, fontsize=9, parse_math=False)
    last_within = np.floor(percentile / 100 * (SHOWN_PER_CLUSTER - 1))
    axes.axvline((last_within + 1) * width - 0.5, color="tab:blue", linewidth=3)
    axes.set_xticks([width / 2, (last_within + 1) * width - 0.5], ["bought", f"nearest {percentile:g} %"], fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("The largest cluster of each class, from its centroid outwards; framed: another class", fontsize=11)
    return figure


def largest_cluster(clustering: Clustering, bought: LabelledImages, label: int) -> NDArray[np.int64] | None:
    """Give the images of the largest cluster whose representative was bought and has a label, nearest first.

    Parameters
    ----------
    clustering : Clustering
    bought : LabelledImages
    label : int

    Returns
    -------
    ndarray of shape (n_members,), int64, or None
        None where the class has no such cluster.
    """
    of_class = np.isin(clustering.representative, bought.index[bought.label == label])
    if not of_class.any():
        return None
    size = np.bincount(clustering.cluster, minlength=len(clustering.representative))
    chosen = np.argmax(np.where(of_class, size, -1))
    members = np.flatnonzero(clustering.cluster == chosen)
    return members[np.argsort(clustering.distance_to_centroid[members], kind="stable")]


def grade_by_distance(
    clustering: Clustering, bought: LabelledImages, truth: NDArray[np.integer], n_bands: int = N_BANDS
) -> NDArray[np.float64]:
    """Say how often a cluster's label is right, by how near an image is to the centroid within its cluster.

    Parameters
    ----------
    clustering : Clustering
    bought : LabelledImages
        Of a cluster whose representative is not among them, no image counts.
    truth : ndarray of shape (n_images,), integer
        -1 where nobody knows: such an image counts for nothing.
    n_bands : int
        Bands of equally many images, nearest first.

    Returns
    -------
    ndarray of shape (n_bands,), float64, in 0-1
        NaN for a band without images. The bought images themselves do not count.
    """
    n_images = len(clustering.cluster)
    label_of_image = np.full(n_images, UNKNOWN)
    label_of_image[bought.index] = bought.label
    label_of_cluster = np.where(clustering.representative < 0, UNKNOWN, label_of_image[clustering.representative])
    spread = label_of_cluster[clustering.cluster]

    order = np.lexsort((clustering.distance_to_centroid, clustering.cluster))
    size = np.bincount(clustering.cluster)[clustering.cluster[order]]
    start = np.searchsorted(clustering.cluster[order], clustering.cluster[order])
    share = np.empty(n_images)
    share[order] = (np.arange(n_images) - start + 0.5) / size

    counts = (spread != UNKNOWN) & (truth != UNKNOWN) & (label_of_image == UNKNOWN)
    band = np.minimum((share[counts] * n_bands).astype(int), n_bands - 1)
    n_right = np.bincount(band, spread[counts] == truth[counts], minlength=n_bands)
    n = np.bincount(band, minlength=n_bands)
    return np.divide(n_right, n, out=np.full(n_bands, np.nan), where=n > 0)


def draw_spreading(right: NDArray[np.float64], percentile: float) -> Figure:
    """Draw how often a cluster's label is right against the distance from its centroid."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    width = 100 / len(right)
    left = width * np.arange(len(right))
    colours = np.where(left + width <= percentile, "tab:blue", "lightsteelblue")
    axes.bar(left, 100 * right, width=0.9 * width, align="edge", color=colours)
    axes.axvline(percentile, color="black", linestyle=":", label=f"percentile {percentile:g}, where spreading ends")
    axes.set(
        xlim=(0, 100),
        ylim=(0, 100),
        xlabel="images of a cluster by distance from its centroid, nearest first, %",
        ylabel="cluster's label is right, %",
        title="Near the centroid a label is right more often",
    )
    axes.legend(loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_mistakes(
    images: Rows, actual: NDArray[np.integer], scores: NDArray[np.float32], class_names: list[str]
) -> Figure:
    """Show the test images on which the network is surest, and wrong.

    Parameters
    ----------
    images : ndarray or Stored of shape (n_images, height, width, channels), uint8
    actual : ndarray of shape (n_images,), integer
        -1 where nobody knows.
    scores : ndarray of shape (n_images, n_classes), float32, in 0-1
    class_names : list of str

    Returns
    -------
    Figure
    """
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero((predicted != actual) & (actual != UNKNOWN))
    surest = wrong[np.argsort(-scores[wrong, predicted[wrong]], kind="stable")][:N_MISTAKES]
    captions = [f"{class_names[actual[row]]}\nnot {class_names[predicted[row]]}" for row in surest]
    title = f"{len(wrong):,} of {len(images):,} test images are answered wrong; the {len(surest)} surest answers"
    return draw_sheet(images[surest], captions, title)


if __name__ == "__main__":
    run(main)
