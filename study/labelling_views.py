"""Let simulated people label on the two views, and measure accuracy against the decisions that they make.

In the *query* view a decision is the label of one image. In the *grid* view some of a cluster's images are shown at
once: the person takes out those of another class than most, and labels the rest with one key. What that costs is a
model: ``cheap`` counts the key alone, ``quarter`` and ``half`` also that share of a decision for each image that
is taken out, ``dear`` a whole one, and ``careful`` a tenth more for each image that is looked at. All answers are those
of the data set: nobody errs.

``tune`` tries settings of both views on seeds that are not reported, and grades them on 10,000 images of the pool that
it keeps from the views; ``compare`` runs the best ones on the whole pool and grades on the test set; ``tabulate``
writes tables and a plot. The first two add to their table what is not in it yet, so they can be stopped at any time.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
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
from study.tabulate import finish, half_width
from tools.pages import format_markdown, write_table

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "study" / "labelling_views"
SCRATCH = PROJECT / "study" / "runs" / "labelling_views"
BUDGETS = [200, 500, 1000]
SEEDS = [42, 1, 2]
TUNING_SEEDS = [101]
N_HELD_OUT = 10_000
N_COMPONENTS = 100
N_CLASSES = 10


class Step(StrEnum):
    """What to do: try settings, run the chosen ones, or tabulate what came out."""

    TUNE = "tune"
    COMPARE = "compare"
    TABULATE = "tabulate"


class Learner(StrEnum):
    """Who learns from the labels."""

    LOGREG = "logreg"
    NETWORK = "network"


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


BASELINE = "query"
LEARNERS = {"logreg": "logistic regression", "network": "network"}
VIEWS = [
    BASELINE,
    "query by margin",
    *(f"grid, {cost}" for cost in COSTS),
    *(f"grid, then query by margin, {cost}" for cost in COSTS),
]
DRAWN: dict[str, dict[str, Any]] = {
    BASELINE: {"color": "C0"},
    "query by margin": {"color": "C0", "ls": "--"},
    "grid, cheap": {"color": "C2"},
    "grid, quarter": {"color": "C8"},
    "grid, half": {"color": "C5"},
    "grid, dear": {"color": "C1"},
    "grid, careful": {"color": "C3"},
    "grid, then query by margin, dear": {"color": "C1", "ls": "--"},
}


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


def main(
    step: Annotated[Step, Argument()],
    data: Annotated[Path, Option(help="where download's arrays are")] = PROJECT / "data",
    only: Annotated[list[Learner] | None, Option("--learner", help="of compare; both without")] = None,
) -> None:
    if step is Step.TABULATE:
        results = pd.read_csv(RESULTS / "results.csv", keep_default_na=False)
        with replacing(RESULTS / "decisions.png") as temporary:
            draw(results).savefig(temporary, metadata={"Software": None})
        for name, table in (
            ("accuracies", format_accuracies(results)),
            ("differences", format_differences(results)),
            ("settings", format_settings(results)),
        ):
            write_table(RESULTS / "README.md", name, table)
        return
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    images = load_images(data / "train_images.npy")
    labels = load_labels(data / "train_labels.npy", len(images))
    if step is Step.TUNE:
        for seed in TUNING_SEEDS:
            kept, held_out = split(len(images), seed)
            some = Images("tuning", images[kept], labels[kept], images[held_out], labels[held_out])
            add_rows(RESULTS / "tuning.csv", seed, list_tuned(), partial(grade_quickly, some, seed, params))
        return
    test_images = load_images(data / "test_images.npy")
    test_labels = load_labels(data / "test_labels.npy", len(test_images))
    everything = Images("pool", images[:], labels, test_images[:], test_labels)
    chosen = choose(pd.read_csv(RESULTS / "tuning.csv", keep_default_na=False))
    for seed in SEEDS:
        for learner in Learner:
            grade = partial(grade_wholly, everything, seed, params, learner)
            if not only or learner in only:
                add_rows(RESULTS / "results.csv", seed, chosen, grade, learner)


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
            runs += [(n, BASELINE, replace(same, n_clusters=n_clusters)) for n_clusters in (n, 2000)]
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


def add_rows(
    path: Path,
    seed: int,
    runs: list[tuple[int, str, View]],
    prepare: Callable[[], Callable[[View, int], dict[str, Any]]],
    learner: str = "logreg",
) -> None:
    """Run what a table lacks, and write the table after each.

    Parameters
    ----------
    path : Path
        Of the table.
    seed : int
    runs : list of (int, str, View)
        Number of decisions, name of the view, view.
    prepare : callable
        Gives the function that runs one; it is not called where nothing is missing.
    learner : str
    """
    rows: list[dict[Any, Any]] = []
    if path.exists():
        rows = pd.read_csv(path, keep_default_na=False).to_dict("records")
    settings = [*View.__annotations__]
    done = {
        (row["learner"], row["seed"], row["decisions"], row["view"], *(row[key] for key in settings)) for row in rows
    }
    missing = [(n, name, view) for n, name, view in runs if (learner, seed, n, name, *astuple(view)) not in done]
    if not missing:
        return
    grade = prepare()
    for n, name, view in tqdm(missing, desc=f"{path.stem}, {learner}, seed {seed}", unit="run"):
        what = {"learner": learner, "seed": seed, "decisions": n, "view": name}
        rows.append(what | asdict(view) | grade(view, n))
        with replacing(path) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)


def grade_quickly(images: Images, seed: int, params: dict[str, Any]) -> Callable[[View, int], dict[str, Any]]:
    """Prepare to grade views by logistic regression on principal components, which is fast."""
    components = PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit(to_pixel_vectors(images.pixels))
    rows = components.transform(to_pixel_vectors(images.pixels)).astype(np.float32)
    graded = components.transform(to_pixel_vectors(images.graded_pixels)).astype(np.float32)

    def grade(view: View, n_decisions: int) -> dict[str, Any]:
        labelled, counts = label(images, rows, view, n_decisions, seed, params)
        accuracy = grade_logreg(rows, labelled, graded, images.graded_label, params)
        return counts | {"accuracy": round(accuracy, 4)}

    return grade


def grade_wholly(
    images: Images, seed: int, params: dict[str, Any], learner: Learner
) -> Callable[[View, int], dict[str, Any]]:
    """Prepare to grade views as the pipeline does, by logistic regression on the pixels or by the network.

    Margins are those of a classifier of the principal components here too, of which there are eight a budget.
    """
    rows, graded = to_pixel_vectors(images.pixels), to_pixel_vectors(images.graded_pixels)
    components = PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit_transform(rows).astype(np.float32)

    def grade(view: View, n_decisions: int) -> dict[str, Any]:
        labelled, counts = label(images, components, view, n_decisions, seed, params)
        if learner is Learner.NETWORK:
            accuracy = grade_network(images, labelled, seed, params)
        else:
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
    path = SCRATCH / f"{images.name}_{n_clusters}_{seed}.npz"
    if not path.exists():
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


def grade_network(images: Images, labelled: LabelledImages, seed: int, params: dict[str, Any]) -> float:
    """Give the accuracy of the network."""
    # TensorFlow takes seconds to load.
    from few_labels.network import score, train_until_alive
    from few_labels.parameters import TrainNN

    settings = TrainNN(**params["train_nn"])
    with tempfile.TemporaryDirectory() as scratch:
        network, _ = train_until_alive(images.pixels, labelled, N_CLASSES, settings, seed, Path(scratch))
    return float((score(network, images.graded_pixels).argmax(axis=1) == images.graded_label).mean())


def name_views(results: pd.DataFrame) -> pd.DataFrame:
    """Put the cost of a grid into the name of its view, and order the views."""
    named = results["view"] + results["cost"].map(lambda cost: f", {cost}" if cost else "")
    return results.assign(view=pd.Categorical(named, VIEWS, ordered=True))


def format_accuracies(results: pd.DataFrame) -> str:
    """Write a Markdown table with a line for each learner and view, and a column for each budget."""
    return pivot(name_views(results), "accuracy", "{:.2f}")


def format_differences(results: pd.DataFrame) -> str:
    """Write a Markdown table of how much better each view is than the query view, seed by seed."""
    named = name_views(results)
    keys = ["learner", "decisions", "seed"]
    baseline = named[named["view"] == BASELINE].set_index(keys)["accuracy"]
    others = named[named["view"] != BASELINE]
    difference = others["accuracy"].to_numpy() - baseline.loc[pd.MultiIndex.from_frame(others[keys])].to_numpy()
    return pivot(others.assign(difference=difference), "difference", "{:+.2f}")


def pivot(named: pd.DataFrame, value: str, pattern: str) -> str:
    """Write a Markdown table of means over seeds with their 95 % intervals, in percent."""
    header = ["", "view", *(f" {n:,} decisions" for n in BUDGETS)]
    rows = []
    for (learner, view), group in named.groupby(["learner", "view"], observed=True):
        seeds = (100 * group[group["decisions"] == n][value] for n in BUDGETS)
        cells = [f"{pattern.format(some.mean())} ± {half_width(some.std(), len(some)):.2f}" for some in seeds]
        rows.append([LEARNERS[str(learner)], str(view), *cells])
    return format_markdown(header, rows)


def format_settings(results: pd.DataFrame) -> str:
    """Write a Markdown table of what each view does, and of the labels that it bought, on average over seeds."""
    header = [" decisions", "view", " clusters", "a grid shows", " percentile", " labels", " trained on", " right, %"]
    rows = []
    named = name_views(results)
    for (n, view), group in named[named["learner"] == "logreg"].groupby(["decisions", "view"], observed=True):
        first, mean = group.iloc[0], group[["labels", "trained_on", "right"]].mean()
        shown = f"{first['n_shown']} {first['shown']}" if first["grid_share"] else ""
        counts = [f"{mean['labels']:,.0f}", f"{mean['trained_on']:,.0f}", f"{100 * mean['right']:.1f}"]
        rows.append([f"{n:,}", str(view), f"{first['n_clusters']:,}", shown, f"{first['percentile']:.0f}", *counts])
    return format_markdown(header, rows)


def draw(results: pd.DataFrame) -> Figure:
    """Draw test accuracy against decisions, a panel a learner and a curve a view."""
    named = name_views(results)
    learners = [learner for learner in LEARNERS if learner in set(named["learner"])]
    figure = Figure(figsize=(4.5 * len(learners) + 3, 4.8), layout="constrained")
    for axes, learner in zip(figure.subplots(1, len(learners), sharey=True, squeeze=False)[0], learners, strict=True):
        of_learner = named[named["learner"] == learner]
        drawn = {view: style for view, style in DRAWN.items() if view in set(of_learner["view"])}
        for offset, (view, style) in enumerate(drawn.items()):
            groups = of_learner[of_learner["view"] == view].groupby("decisions")["accuracy"]
            mean, sd = 100 * groups.mean(), 100 * groups.std()
            # Side by side, or the intervals would hide each other.
            places = mean.index * 1.02 ** (offset - len(drawn) / 2)
            axes.errorbar(places, mean, half_width(sd, groups.size()), marker="o", capsize=3, label=view, **style)
        axes.set_xscale("log")
        axes.set_xticks(BUDGETS, [f"{n:,}" for n in BUDGETS])
        axes.minorticks_off()
        finish(axes, "decisions", LEARNERS[learner])
    figure.axes[0].set_ylabel("test accuracy, %")
    figure.axes[-1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


if __name__ == "__main__":
    run(main)
