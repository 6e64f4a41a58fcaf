"""Write what the last run came to into the pages that tell of it, so that no number is copied by hand.

The front door has what ``make repro`` prints and the comparison with the published study; the model card has how well
each classifier does, class by class.
"""

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from few_labels.calibration import wilson_interval
from tools.pages import format_markdown, write_table

PROJECT = Path(__file__).parent.parent
EVALUATION = PROJECT / "metrics" / "plots" / "evaluation"
NAMES = {"nn": "convolutional network", "logreg": "logistic regression"}
# The default setting in the study: 2,000 representatives, each label over the nearest quarter of its cluster.
STUDY_ROWS = {"nn": "nn_partially_propagated_2000", "logreg": "log_reg_partially_propagated"}
# Of what make repro prints, the columns of which the front door speaks.
PRINTED = ["labels.bought", "labels.trained_on", "propagation.accuracy", "logreg.accuracy", "nn.accuracy"]


def main() -> None:
    metrics = json.loads((PROJECT / "metrics" / "metrics.json").read_text())
    study = read_study(PROJECT / "metrics" / "study_summary.csv")
    answers = {model: pd.read_csv(EVALUATION / f"{model}_confusion.csv") for model in NAMES}
    write_table(PROJECT / "README.md", "printed", format_printed(metrics))
    write_table(PROJECT / "README.md", "results", format_results(metrics, study))
    write_table(PROJECT / "docs" / "model-card.md", "accuracy", format_accuracy(answers, study))
    write_table(PROJECT / "docs" / "model-card.md", "classes", format_classes(answers))
    write_table(PROJECT / "docs" / "model-card.md", "labels", format_labels(metrics))


def format_printed(metrics: dict[str, Any]) -> str:
    """Show the end of what ``make repro`` prints, with fewer columns.

    Parameters
    ----------
    metrics : dict
        Of metrics/metrics.json.

    Returns
    -------
    str
        A block of text for a Markdown page.
    """
    values = [metrics[group][name] for group, name in (column.split(".") for column in PRINTED)]
    cells = ["metrics/metrics.json", *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)]
    widths = [max(len(head), len(cell)) for head, cell in zip(["Path", *PRINTED], cells, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in (["Path", *PRINTED], cells)
    ]
    return "\n".join(["```", *lines, "```"])


def read_study(path: Path) -> dict[str, dict[Hashable, Any]]:
    """Read what the study has of the default setting.

    Parameters
    ----------
    path : Path
        Of the summary, a row a row of the study.

    Returns
    -------
    dict of str to dict
        By model: ``mean`` over seeds, the ``low`` and ``high`` end of its interval, ``published``; all in 0-1.
    """
    rows = {row["artifact"]: row for row in pd.read_csv(path).to_dict("records")}
    return {model: rows[row] for model, row in STUDY_ROWS.items()}


def format_results(metrics: dict[str, Any], study: dict[str, dict[Hashable, Any]]) -> str:
    """Set the test accuracies beside those of the published study.

    Parameters
    ----------
    metrics : dict
        Of metrics/metrics.json.
    study : dict
        As `read_study` gives it.

    Returns
    -------
    str
        A Markdown table.
    """
    rows = [
        [name, f"{100 * metrics[model]['accuracy']:.2f}", f"{100 * study[model]['published']:.2f}"]
        for model, name in NAMES.items()
    ]
    return format_markdown(["", " test accuracy, %", " published study, same setting, %"], rows)


def format_labels(metrics: dict[str, Any]) -> str:
    """Say how many labels were bought and spread, and how many of those are right.

    Parameters
    ----------
    metrics : dict
        Of metrics/metrics.json.

    Returns
    -------
    str
        A Markdown table.
    """
    bought, trained_on = metrics["labels"]["bought"], metrics["labels"]["trained_on"]
    rows = [
        ["labels bought", f"{bought:,}"],
        ["labels spread from them", f"{trained_on - bought:,}"],
        ["spread labels that are right, %", f"{100 * metrics['propagation']['accuracy']:.2f}"],
    ]
    return format_markdown(["what the models learned from", " "], rows)


def format_accuracy(answers: dict[str, pd.DataFrame], study: dict[str, dict[Hashable, Any]]) -> str:
    """Give each classifier's test accuracy with its interval, and what five seeds of the study have.

    Parameters
    ----------
    answers : dict of str to DataFrame
        By model: ``actual,predicted``, a row a test image.
    study : dict
        As `read_study` gives it.

    Returns
    -------
    str
        A Markdown table.
    """
    rows = []
    for model, table in answers.items():
        n_right = int((table["actual"] == table["predicted"]).sum())
        low, high = wilson_interval(n_right, len(table))
        seeds = study[model]
        rows.append(
            [
                NAMES[model],
                f"{100 * n_right / len(table):.2f}",
                f"{100 * low:.2f} to {100 * high:.2f}",
                f"{100 * seeds['mean']:.2f} ± {100 * (seeds['high'] - seeds['mean']):.2f}",
            ]
        )
    header = ["", " test accuracy of this run, %", "95 % interval", "mean of five seeds in the study, %"]
    return format_markdown(header, rows)


def format_classes(answers: dict[str, pd.DataFrame]) -> str:
    """Give each classifier's accuracy by class, and what the network takes a class for most often when it is wrong.

    Parameters
    ----------
    answers : dict of str to DataFrame
        By model: ``actual,predicted``, a row a test image.

    Returns
    -------
    str
        A Markdown table, the class that the network knows least first.
    """
    right = pd.DataFrame(
        {
            model: (table["actual"] == table["predicted"]).groupby(table["actual"]).mean()
            for model, table in answers.items()
        }
    ).sort_values("nn", kind="stable")
    wrong = answers["nn"][answers["nn"]["actual"] != answers["nn"]["predicted"]]
    # Of mistakes that are equally frequent, the first in the alphabet.
    taken_for = {
        str(actual): str(given.value_counts().sort_index().idxmax())
        for actual, given in wrong.groupby("actual")["predicted"]
    }
    rows = [
        [str(name), *(f"{100 * shares[model]:.1f}" for model in NAMES), taken_for.get(str(name), "")]
        for name, shares in right.iterrows()
    ]
    return format_markdown(["class", *(f" {name}, %" for name in NAMES.values()), "the network's usual mistake"], rows)


if __name__ == "__main__":
    main()
