"""Let simulated people label on the two views, and measure accuracy against the decisions that they make.

In the *query* view a decision is the label of one image. In the *grid* view some of a cluster's images are shown at
once: the person takes out those of another class than most, and labels the rest with one key. What that costs is a
model: ``cheap`` counts the key alone, ``quarter`` and ``half`` also that share of a decision for each image that
is taken out, ``dear`` a whole one, and ``careful`` a tenth more for each image that is looked at. All answers are those
of the data set: nobody errs.

``tune`` tries settings of both views on seeds that are not reported, and grades them on 10,000 images of the pool that
it keeps from the views; ``compare`` runs the best ones on the whole pool and grades on the test set, both by logistic
regression. Each adds to its table what is not in it yet, or was made by other code, so it can be stopped at any time;
`study.tabulate_labelling_views` makes a page of the tables.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, replace
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from tqdm import tqdm
from typer import Argument, Option

from few_labels.artifacts import (
    Clustering,
    LabelledImages,
    load_clustering,
    load_images,
    load_labels,
    replacing,
    save_clustering,
)
from few_labels.images import to_pixel_vectors
from few_labels.logistic_regression import score, train_on
from few_labels.parameters import TrainLogreg
from few_labels.propagation import spread_over_clusters
from few_labels.query import Pool, Strategy, plan_rounds, query
from stages import run
from stages.kmeans import describe, fit_kmeans
from study.plan import PROJECT
from tools.code import hash_code

RESULTS = PROJECT / "study" / "labelling_views"
SCRATCH = PROJECT / "study" / "runs" / "labelling_views"
BUDGETS = [200, 500, 1000]
SEEDS = [42, 1, 2]
TUNING_SEEDS = [101]
N_HELD_OUT = 10_000
N_COMPONENTS = 100
N_CLASSES = 10


class Step(StrEnum):
    """What to do: try settings, or run the chosen ones."""

    TUNE = "tune"
    COMPARE = "compare"


@dataclass(frozen=True)
class Cost:
    """What a grid costs beside the key that labels it, in decisions.

    Attributes
    ----------
    taken_out : float
        Each image of another class.
    looked_at : float
        Each image shown.
    """

    taken_out: float
    looked_at: float


COSTS = {
    "cheap": Cost(0, 0),
    "quarter": Cost(0.25, 0),
    "half": Cost(0.5, 0),
    "dear": Cost(1, 0),
    "careful": Cost(1, 0.1),
}


@dataclass(frozen=True)
class View:
    """How a budget of decisions is spent.

    Attributes
    ----------
    grid_share : float
        Share of the decisions made on grids, in 0-1; the others are queries.
    strategy : str
        Of the queries: ``representative`` or ``margin``.
    n_clusters : int
        Of k-means.
    n_shown : int
        Images of a grid, at most.
    shown : str
        Which: the ``nearest`` to the centroid, or ``spread`` evenly from there to the farthest.
    cost : str
        Of a grid.
    percentile : float
        How much of its cluster a label is spread over, 0-100.
    """

    grid_share: float
    strategy: str
    n_clusters: int
    n_shown: int
    shown: str
    cost: str
    percentile: float


@dataclass(frozen=True)
class Images:
    """What views choose from, and what they are graded on.

    Attributes
    ----------
    name : str
        Of the pool, for files.
    pixels : ndarray of shape (n_images, height, width, channels), uint8
    label : ndarray of shape (n_images,), int16
        The oracle; only what was asked for is read.
    graded_pixels, graded_label : ndarray
        The same of the images that grade.
    """

    name: str
    pixels: NDArray[np.uint8]
    label: NDArray[np.int16]
    graded_pixels: NDArray[np.uint8]
    graded_label: NDArray[np.int16]


Grade = Callable[[View, int], dict[str, Any]]


def main(
    step: Annotated[Step, Argument()],
    data: Annotated[Path, Option(help="where download's arrays are")] = PROJECT / "data",
) -> None:
    params = read_params()
    images = load_images(data / "train_images.npy")
    labels = load_labels(data / "train_labels.npy", len(images))
    if step is Step.TUNE:

        def prepare(seed: int) -> Grade:
            kept, held_out = split(len(images), seed)
            some = Images("tuning", images[kept], labels[kept], images[held_out], labels[held_out])
            return grade_quickly(some, seed, params)

        make_rows(RESULTS / "tuning.csv", TUNING_SEEDS, list_tuned(), prepare)
        return
    test_images = load_images(data / "test_images.npy")
    test_labels = load_labels(data / "test_labels.npy", len(test_images))
    everything = Images("pool", images[:], labels, test_images[:], test_labels)
    chosen = choose(pd.read_csv(RESULTS / "tuning.csv", keep_default_na=False))
    make_rows(RESULTS / "results.csv", SEEDS, chosen, lambda seed: grade_wholly(everything, seed, params))


def read_params() -> dict[str, Any]:
    """Read the parameters that decide what views come to."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    return {name: params[name] for name in ("kmeans", "select_labels", "train_logreg")}


def hash_all() -> str:
    """Hash the code and the parameters that decide what views come to."""
    return hash_code([Path(__file__)], read_params(), PROJECT)


def split(n_images: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the images that settings are chosen on, and give the others and them, ascending."""
    shuffled = np.random.default_rng(seed).permutation(n_images)
    return np.sort(shuffled[N_HELD_OUT:]), np.sort(shuffled[:N_HELD_OUT])


def list_tuned() -> list[tuple[int, str, View]]:
    """Give the settings to choose from: number of decisions, name of the view, view."""
    runs = []
    for n in BUDGETS:
        queries = View(0.0, "representative", n, 0, "nearest", "", 0.0)
        for percentile in (0.0, 25.0, 100.0):
            same = replace(queries, percentile=percentile)
            runs += [(n, "query", replace(same, n_clusters=n_clusters)) for n_clusters in (n, 2000)]
            runs.append((n, "query by margin", replace(same, strategy="margin", n_clusters=n // 2)))
        cheap = View(1.0, "representative", n, 49, "nearest", "cheap", 0.0)
        runs += [(n, "grid", replace(cheap, n_shown=n_shown)) for n_shown in (9, 25, 49, 100)]
        runs += [(n, "grid", replace(cheap, shown="spread")), (n, "grid", replace(cheap, n_clusters=2000))]
        dear = replace(cheap, cost="dear")
        for n_clusters, n_shown in product((n // 2, n), (4, 9, 25)):
            runs.append((n, "grid", replace(dear, n_clusters=n_clusters, n_shown=n_shown)))
        for cost, (n_clusters, n_shown) in product(("quarter", "half"), ((n // 2, 9), (n, 9), (n, 25))):
            runs.append((n, "grid", replace(dear, cost=cost, n_clusters=n_clusters, n_shown=n_shown)))
        some = replace(dear, n_clusters=n // 2, n_shown=4)
        runs += [(n, "grid", replace(some, shown="spread")), (n, "grid", replace(some, percentile=100.0))]
        for n_shown in (4, 9):
            mixed = replace(dear, grid_share=0.5, strategy="margin", n_clusters=n // 2, n_shown=n_shown)
            runs.append((n, "grid, then query by margin", mixed))
    return runs


def choose(tuning: pd.DataFrame) -> list[tuple[int, str, View]]:
    """Give what to compare: of each view at each budget and cost the settings that were best when tried.

    Parameters
    ----------
    tuning : DataFrame
        What `list_tuned` came to.

    Returns
    -------
    list of (int, str, View)
        Number of decisions, name of the view, view. The careful grid has the settings of the dear one.
    """
    settings = list(View.__annotations__)
    means = tuning.groupby(["decisions", "view", *settings], as_index=False)["accuracy"].mean()
    best = means.loc[means.groupby(["decisions", "view", "cost"])["accuracy"].idxmax()]
    runs = [
        (row["decisions"], row["view"], View(**{key: row[key] for key in settings})) for row in best.to_dict("records")
    ]
    runs += [(n, name, replace(view, cost="careful")) for n, name, view in runs if view.cost == "dear"]
    return runs


def make_rows(path: Path, seeds: list[int], runs: list[tuple[int, str, View]], prepare: Callable[[int], Grade]) -> None:
    """Make the rows of a table that are missing, or of other code, and write the table after each.

    Parameters
    ----------
    path : Path
        Of the table.
    seeds : list of int
    runs : list of (int, str, View)
        Number of decisions, name of the view, view.
    prepare : callable
        Gives, for a seed, the function that runs one; it is not called where nothing is to do.
    """
    key = ["seed", "decisions", "view", *View.__annotations__]
    known = pd.read_csv(path, keep_default_na=False).to_dict("records") if path.exists() else []
    rows: dict[tuple[Any, ...], dict[Any, Any]] = {tuple(row[name] for name in key): row for row in known}
    code = hash_all()
    wanted = {(seed, n, name, *astuple(view)): (n, name, view) for seed in seeds for n, name, view in runs}
    for seed in seeds:
        to_do = [at for at in wanted if at[0] == seed and rows.get(at, {}).get("code") != code]
        if not to_do:
            continue
        grade = prepare(seed)
        for at in tqdm(to_do, desc=f"{path.stem}, seed {seed}", unit="run"):
            n, name, view = wanted[at]
            rows[at] = {"seed": seed, "decisions": n, "view": name} | asdict(view) | grade(view, n) | {"code": code}
            with replacing(path) as temporary:
                pd.DataFrame([rows[at] for at in wanted if at in rows]).to_csv(temporary, index=False)


def grade_quickly(images: Images, seed: int, params: dict[str, Any]) -> Grade:
    """Prepare to grade views by logistic regression on principal components, which is fast."""
    components = PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit(to_pixel_vectors(images.pixels))
    rows = components.transform(to_pixel_vectors(images.pixels)).astype(np.float32)
    graded = components.transform(to_pixel_vectors(images.graded_pixels)).astype(np.float32)

    def grade(view: View, n_decisions: int) -> dict[str, Any]:
        labelled, counts = label(images, rows, view, n_decisions, seed, params)
        accuracy = grade_logreg(rows, labelled, graded, images.graded_label, params)
        return counts | {"accuracy": round(accuracy, 4)}

    return grade


def grade_wholly(images: Images, seed: int, params: dict[str, Any]) -> Grade:
    """Prepare to grade views by logistic regression on the pixels.

    Margins are those of a classifier of the principal components here too, of which there are eight a budget.
    """
    rows, graded = to_pixel_vectors(images.pixels), to_pixel_vectors(images.graded_pixels)
    components = PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit_transform(rows).astype(np.float32)

    def grade(view: View, n_decisions: int) -> dict[str, Any]:
        labelled, counts = label(images, components, view, n_decisions, seed, params)
        accuracy = grade_logreg(rows, labelled, graded, images.graded_label, params)
        return counts | {"accuracy": round(accuracy, 4)}

    return grade


def label(
    images: Images, rows: NDArray[np.float32], view: View, n_decisions: int, seed: int, params: dict[str, Any]
) -> tuple[LabelledImages, dict[str, Any]]:
    """Spend a budget on a view, and spread what it bought.

    Returns
    -------
    LabelledImages
        The training set.
    dict
        How many labels were bought and are in the training set, and the share of the latter that are right.
    """
    clustering = cluster(images, view.n_clusters, seed, params)
    bought = spend(clustering, rows, images.label, view, n_decisions, seed, params)
    labelled = spread_over_clusters(clustering, bought, view.percentile)
    right = float((labelled.label == images.label[labelled.index]).mean())
    return labelled, {"labels": len(bought.index), "trained_on": len(labelled.index), "right": round(right, 4)}


def cluster(images: Images, n_clusters: int, seed: int, params: dict[str, Any]) -> Clustering:
    """Cluster as the pipeline does, once for every number of clusters and seed."""
    path = SCRATCH / hash_all() / f"{images.name}_{n_clusters}_{seed}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        X = to_pixel_vectors(images.pixels)
        save_clustering(path, describe(fit_kmeans(X, n_clusters, **params["kmeans"], seed=seed), X))
    return load_clustering(path, len(images.pixels))


def spend(
    clustering: Clustering,
    rows: NDArray[np.float32],
    labels: NDArray[np.int16],
    view: View,
    n_decisions: int,
    seed: int,
    params: dict[str, Any],
) -> LabelledImages:
    """Spend a budget: grids first, as many as fit into their share, then queries.

    Parameters
    ----------
    clustering : Clustering
    rows : ndarray of shape (n_images, n_features), float32
        What ``margin``'s classifier sees.
    labels : ndarray of shape (n_images,), int16
        The oracle.
    view : View
    n_decisions : int
    seed : int
    params : dict

    Returns
    -------
    LabelledImages
    """
    known = np.full(len(labels), -1, np.int16)
    seen = np.zeros(len(labels), bool)
    left = float(n_decisions)
    for shown in list_grids(clustering, view) if view.grid_share else ():
        rest, price = answer_grid(labels[shown], COSTS[view.cost])
        if n_decisions - left + price > view.grid_share * n_decisions:
            break
        left -= price
        seen[shown] = True
        known[shown[rest]] = labels[shown[rest]]
    strategy = Strategy(view.strategy)
    pool = Pool(len(labels), clustering, lambda: rows, TrainLogreg(**params["train_logreg"]), seed)
    n_start, n_queries = np.count_nonzero(known >= 0), int(left)
    totals = plan_rounds(strategy, pool, n_queries, params["select_labels"]["n_rounds"])
    if strategy is Strategy.MARGIN and view.grid_share:
        # The grids are the start that representatives are elsewhere.
        seen[clustering.representative[clustering.representative >= 0]] = True
        n_rounds = params["select_labels"]["n_rounds"]
        totals = [round(n_queries * (i + 1) / n_rounds) for i in range(n_rounds)]
    for total in totals:
        wanted = int(n_start + total - np.count_nonzero(known >= 0))
        asked = query(strategy, pool, collect(known), np.flatnonzero(seen | (known >= 0)), wanted)
        known[asked] = labels[asked]
    return collect(known)


def collect(known: NDArray[np.int16]) -> LabelledImages:
    """Give what is known by row."""
    index = np.flatnonzero(known >= 0)
    return LabelledImages(index, known[index].astype(np.uint8))


def list_grids(clustering: Clustering, view: View) -> Iterator[NDArray[np.int64]]:
    """Give the rows that each grid shows, the largest cluster first."""
    order = np.lexsort((clustering.distance_to_centroid, clustering.cluster))
    sizes = np.bincount(clustering.cluster)
    members = np.split(order, np.cumsum(sizes)[:-1])
    for number in np.argsort(-sizes, kind="stable"):
        rows = members[number]
        if view.shown == "spread":
            yield rows[np.unique(np.linspace(0, len(rows) - 1, min(view.n_shown, len(rows))).round().astype(int))]
        else:
            yield rows[: view.n_shown]


def answer_grid(labels: NDArray[np.int16], cost: Cost) -> tuple[NDArray[np.bool_], float]:
    """Answer a grid as a person does: take out what is not of the commonest class, and label the rest.

    Parameters
    ----------
    labels : ndarray of shape (n_shown,), int16
        The truth.
    cost : Cost

    Returns
    -------
    ndarray of shape (n_shown,), bool
        What is left and gets the label.
    float
        The decisions that this took.
    """
    rest = labels == np.bincount(labels).argmax()
    return rest, 1 + cost.taken_out * np.count_nonzero(~rest) + cost.looked_at * len(labels)


def grade_logreg(
    rows: NDArray[np.float32],
    labelled: LabelledImages,
    graded: NDArray[np.float32],
    graded_label: NDArray[np.int16],
    params: dict[str, Any],
) -> float:
    """Give the accuracy of logistic regression."""
    classifier = train_on(rows, labelled, **params["train_logreg"])
    return float((score(classifier, graded, N_CLASSES).argmax(axis=1) == graded_label).mean())


if __name__ == "__main__":
    run(main)
