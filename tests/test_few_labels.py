"""The recipe for few labels reaches what it promises, and its tables and pages are those of its runs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from few_labels.errors import InputError
from few_labels.images import to_pixel_vectors
from few_labels.parameters import TrainLogreg
from study import tabulate_few_labels
from study.peers import grade_peers, grade_queries
from study.plan import RESULTS, read_plan, read_results
from tests.conftest import PROJECT, Clone, leaves
from tools import recipes
from tools.pages import insert
from tools.recipes import at_budget, combine, read_recipe

RECIPE = "few-labels"
FOUND = read_results(RESULTS)
LINES = tabulate_few_labels.list_runs(FOUND)
PEERS = tabulate_few_labels.list_peers(FOUND)
PUBLISHED = tabulate_few_labels.published_best(yaml.safe_load((PROJECT / "study" / "rows.yaml").read_text())["rows"])

FRONT_DOOR = tabulate_few_labels.beside_published(LINES, PUBLISHED)


@pytest.mark.parametrize(
    ("n_labels", "n_seeds", "least"),
    [
        (50, 3, 0.78),
        (100, 3, 0.81),
        (200, 3, 0.85),
        (500, 3, 0.881),
        (1000, 3, 0.897),
        (2000, 5, 0.906),
        (60_000, 3, 0.932),
    ],
)
def test_the_recipe_reaches_its_accuracy_in_the_mean(n_labels: int, n_seeds: int, least: float) -> None:
    runs = LINES[(LINES["variant"] == "recipe") & (LINES["labels"] == n_labels)]
    assert len(runs) >= n_seeds
    assert runs["answer"].mean() >= least


def test_two_thousand_labels_do_what_took_the_published_network_all() -> None:
    runs = LINES[(LINES["variant"] == "recipe") & (LINES["labels"] == 2000)]
    assert runs["answer"].min() > PUBLISHED[60_000] == 0.8968


def test_every_run_bought_what_its_name_says() -> None:
    for (run, _), result in FOUND.items():
        if run.startswith(("recipe_", "without_")):
            assert result["metrics"]["labels"]["bought"] == int(run.rpartition("_")[2])


@pytest.mark.parametrize(("name", "table"), [("few_labels", LINES), ("few_labels_peers", PEERS)])
def test_a_table_is_that_of_the_runs(name: str, table: pd.DataFrame) -> None:
    assert (PROJECT / "metrics" / f"{name}.csv").read_text() == table.to_csv(index=False)


@pytest.mark.parametrize(
    ("page", "name", "text"),
    [
        ("README.md", "few-labels", tabulate_few_labels.format_budgets(FRONT_DOOR, PUBLISHED, ["answer"])),
        ("study/few_labels/README.md", "budgets", tabulate_few_labels.format_budgets(LINES, PUBLISHED)),
        ("study/few_labels/README.md", "peers", tabulate_few_labels.format_peers(LINES, PEERS)),
        ("study/few_labels/README.md", "ablation", tabulate_few_labels.format_ablation(LINES)),
    ],
)
def test_a_page_shows_the_runs(page: str, name: str, text: str) -> None:
    shown = (PROJECT / page).read_text()
    assert shown == insert(shown, name, text)


def test_every_setting_of_the_recipe_is_a_parameter_that_it_changes() -> None:
    default = leaves(yaml.safe_load((PROJECT / "params.yaml").read_text()))
    recipe = {name: yaml.safe_load(value) for name, value in (read_recipe(RECIPE) | at_budget(500)).items()}
    assert set(recipe) <= set(default)
    assert all(value != default[name] for name, value in recipe.items())
    for group in read_plan()["groups"]:
        for name, changes in group["runs"].items() if "recipe" in group else ():
            changed = {setting: yaml.safe_load(value) for setting, value in changes.items()}
            assert all(value != recipe.get(setting, default[setting]) for setting, value in changed.items()), name


def test_a_quarter_of_the_budget_and_the_first_hundred_go_to_representatives() -> None:
    assert at_budget(2000) == {"select_labels.n_labels": "2000", "n_clusters": "500"}
    n_representatives = {n: int(at_budget(n)["n_clusters"]) for n in (2, 50, 100, 101, 200, 400, 500, 20_000)}
    assert n_representatives == {2: 2, 50: 50, 100: 100, 101: 100, 200: 100, 400: 100, 500: 125, 20_000: 5000}


@pytest.mark.parametrize("budget", ["60000", "all"])
def test_a_budget_that_buys_all_needs_no_choice(budget: str) -> None:
    everything = combine(read_recipe(RECIPE), {"select_labels.n_labels": budget, "seed": "1"})
    assert everything == read_recipe(RECIPE) | at_budget(60_000) | {"seed": "1"}
    assert everything["select_labels.strategy"] == "all"
    assert everything["train_nn.max_steps"] == "13200"
    assert everything["select_labels.n_labels"] == "60000"
    assert everything["n_clusters"] == read_recipe(RECIPE)["n_clusters"]


def test_what_is_chosen_by_hand_stands_at_any_budget() -> None:
    chosen = {"select_labels.n_labels": "80", "n_clusters": "7"}
    assert combine({"select_labels.n_labels": "2000", "n_clusters": "500", "seed": "1"}, chosen) == chosen | {
        "seed": "1"
    }
    assert combine({"percentile": "100"}, {"seed": "2"}) == {"percentile": "100", "seed": "2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train_nn: {mixup: 0.5, colour: red}", "a.yaml: 'train_nn.colour' is no parameter, .* such as train_nn"),
        ("train_nn: [mixup]", "a.yaml: 'train_nn' is no parameter"),
        ("mixup", "a.yaml: holds str"),
        ("{", "a.yaml: not YAML"),
    ],
)
def test_a_recipe_holds_parameters(content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "RECIPES", tmp_path)
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        read_recipe("a")
    with pytest.raises(InputError, match="recipe is 'b', allowed are a"):
        read_recipe("b")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("few-labels --set n_labels=500", "--set: 'n_labels' is no parameter"),
        ("few-labels --set seed", "--set is 'seed', allowed is name=value"),
        ("few-labels --set select_labels.n_labels=some", "n_labels is 'some', allowed are 2 and more, and all"),
        ("few-labels --set seed=$(touch${IFS}trapped)", "params.yaml: seed is '$(touch${IFS}trapped)', allowed is"),
        ("few-labels --set train_nn.mixup=`touch`", "--set 'train_nn.mixup=`touch`': not YAML"),
    ],
)
def test_what_is_typed_is_checked_in_one_line(typed: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "tools.recipes", *typed.split()]
    assert subprocess.run(command, cwd=PROJECT, check=False).returncode == 2
    assert message in capfd.readouterr().err.splitlines()[0]


def test_every_peer_learns_from_few_labels(small_run: Clone) -> None:
    data = small_run.path / "data"
    X, test = (to_pixel_vectors(np.load(data / f"{part}_images.npy")) for part in ("train", "test"))
    known, actual = (np.load(data / f"{part}_labels.npy") for part in ("train", "test"))
    index, prior = np.arange(0, 1000, 10), np.full(10, 0.1)
    classifier = TrainLogreg(kernel="rational-quadratic", C=100, max_iter=100)
    grades = grade_peers(X, test, index, known[index], actual, prior)
    grades |= grade_queries(X, test, known, actual, len(index), classifier, seed=1)
    assert set(grades) == set(tabulate_few_labels.PEERS)
    assert min(grades.values()) > 0.5


def test_a_peer_takes_labels_in_which_a_class_is_missing() -> None:
    rng = np.random.default_rng(0)
    known, actual = np.repeat(np.arange(4), 40), np.repeat([0, 2, 3], 20)
    centres = 9 * np.eye(4, dtype=np.float32)
    X, test = (centres[of] + rng.normal(size=(len(of), 4)).astype(np.float32) for of in (known, actual))
    index = np.flatnonzero(known != 1)[::4]
    grades = grade_peers(X, test, index, known[index], actual, np.full(4, 0.25))
    assert min(grades.values()) > 0.9
