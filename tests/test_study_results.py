"""The committed study is whole, its tables and pages are those of its results, and what it says of itself is so."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from study import tabulate, tabulate_few_labels, tabulate_image_sets
from study.plan import list_runs, read_plan, read_results
from tests.conftest import PROJECT
from tools.pages import insert

STUDY = PROJECT / "study"
METRICS = PROJECT / "metrics"
ROWS = yaml.safe_load((STUDY / "rows.yaml").read_text())
RESULTS = read_results(STUDY / "results")
RUNS = list_runs(read_plan())
LINES = tabulate.list_rows(RESULTS, ROWS["rows"])
SUMMARY = tabulate.summarise(LINES, ROWS["rows"])
CLUSTERINGS = tabulate.list_clusterings(RESULTS, ROWS["published_inertia"])
CONTRASTS = tabulate.list_contrasts(LINES)
PERCENTILES = tabulate.compare_percentiles(LINES, RESULTS)
SETS = tabulate_few_labels.list_runs(RESULTS, tabulate_image_sets.SETS)
VIEWS = tabulate_few_labels.list_runs(RESULTS, [f"stamps_{view}" for view in tabulate_image_sets.VIEWS])


@pytest.mark.parametrize(
    ("path", "table"),
    [
        (METRICS / "study.csv", LINES),
        (METRICS / "study_summary.csv", SUMMARY),
        (METRICS / "study_clusterings.csv", CLUSTERINGS),
        (METRICS / "study_contrasts.csv", CONTRASTS),
        (STUDY / "plots" / "percentile.csv", PERCENTILES),
    ],
)
def test_a_table_is_that_of_the_results(path: Path, table: pd.DataFrame) -> None:
    assert path.read_text() == table.to_csv(index=False)


@pytest.mark.parametrize(
    ("page", "name", "text"),
    [
        ("docs/study.md", "study", tabulate.format_overview(SUMMARY)),
        ("study/README.md", "rows", tabulate.format_rows(SUMMARY)),
        ("study/README.md", "contrasts", tabulate.format_contrasts(CONTRASTS)),
        ("study/README.md", "percentile", tabulate.format_choice(PERCENTILES)),
        ("study/README.md", "clusterings", tabulate.format_clusterings(CLUSTERINGS)),
        ("study/photos/README.md", "views", tabulate_image_sets.format_views(VIEWS)),
        *(
            (
                "study/other_sets/README.md",
                name,
                tabulate_few_labels.format_peers(SETS, tabulate_few_labels.list_peers(RESULTS, f"{name}_peers"), name),
            )
            for name in tabulate_image_sets.SETS
        ),
    ],
)
def test_a_page_shows_the_results(page: str, name: str, text: str) -> None:
    shown = (PROJECT / page).read_text()
    assert shown == insert(shown, name, text)


def test_every_row_is_there_at_every_seed() -> None:
    expected = {
        (file.rpartition(".")[0], run.seed)
        for file, row in ROWS["rows"].items()
        for run in RUNS
        if run.name == row["run"]
    }
    expected |= {(run.name, 42) for run in RUNS if run.name.startswith("published_network")}
    assert set(zip(LINES["artifact"], LINES["seed"], strict=True)) == expected


def test_no_network_of_ours_collapsed() -> None:
    assert (LINES[LINES["model"] == "nn"]["accuracy"] > 0.5).all()


def test_a_row_below_the_published_number_is_named_on_the_page() -> None:
    page = (STUDY / "README.md").read_text().split("## Rows below the published number")[1].split("\n## ")[0]
    below = SUMMARY[(SUMMARY["difference"] < 0) & SUMMARY["model"].isin(tabulate.NAMES)]["artifact"]
    assert set(re.findall(r"^\| `([\w-]+)`", page, re.MULTILINE)) == set(below)


def test_clusterings_reach_the_published_inertia() -> None:
    published = CLUSTERINGS[(CLUSTERINGS["seed"] == 42) & CLUSTERINGS["published"].notna()]
    assert len(published) == 4
    assert (published["above"] <= 0.005).all()
