"""Turn the metrics of the runs on other sets of images into the tables of their pages; ``make study`` ends with it."""

import pandas as pd

from study.plan import PROJECT, RESULTS, read_results
from study.statistics import format_mean
from study.tabulate_few_labels import format_peers, list_peers, list_runs
from tools.pages import format_markdown, write_table

# The recipe's page has a table for each.
SETS = ("digits", "mnist", "stamps")
VIEWS = {"pixels": "pixels", "words": "patches", "patches": "patches and gradients", "encoder": "encoder"}
CLASSIFIERS = {"answer": "the answer", "logreg": "logistic regression", "nn": "network"}


def main() -> None:
    results = read_results(RESULTS)
    lines = list_runs(results, SETS)
    for name in SETS:
        table = format_peers(lines, list_peers(results, f"{name}_peers"), name)
        write_table(PROJECT / "study/other_sets/README.md", name, table)
    views = list_runs(results, [f"stamps_{view}" for view in VIEWS])
    write_table(PROJECT / "study/photos/README.md", "views", format_views(views))


def format_views(lines: pd.DataFrame) -> str:
    """Write lines for each view, of what answers and of each classifier: its accuracy at each budget."""
    budgets = sorted(lines["labels"].unique())
    rows = []
    for view, seen_as in VIEWS.items():
        of_view = lines[lines["variant"] == f"stamps_{view}"]
        for column, name in CLASSIFIERS.items():
            cells = [format_mean(of_view[of_view["labels"] == n][column]) for n in budgets]
            rows.append([seen_as, name, *cells])
    return format_markdown(["seen as", "classifier", *(f" {n} labels" for n in budgets)], rows)


if __name__ == "__main__":
    main()
