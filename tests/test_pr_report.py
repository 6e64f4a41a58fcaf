"""The report of a pull request says what the two sides' files say."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from few_labels.errors import InputError
from stages import run
from tests.conftest import BIN, FASHION, PROJECT, Clone
from tools import pr_report
from tools.pages import format_markdown
from tools.pr_report import (
    MARKER,
    PLOTS,
    Section,
    changed_stages,
    count_confusions,
    fit,
    list_plots,
    moved_most,
    read_table,
    shown,
    tabulate_diff,
)

NAMES = FASHION.class_names
LIMIT = 65_536  # characters of a comment on GitHub
# What a folder, a ledger, a branch or a file of parameters may hold.
HOSTILE = [
    "<img src=http://evil.example/x.png>",
    "</details></table><h1>",
    "<!--",
    "&lt;b&gt; &#64;",
    "@everyone",
    "mail me@evil.example",
    "![x](http://evil.example/x.png)",
    "[x]: http://evil.example",
    "http://evil.example",
    "www.evil.example",
    "WWW.evil.example",
    "# heading",
    "- a list",
    "1. a list",
    "a | b \\| c",
    "`a` ``b``",
    "**a** _b_ ~~c~~",
    "__init__",
    ":tada: $x$ #1 !2 ~3 &4 evil/repo#5",
    "GH-12",
    "deadbeef",
    "/close",
    "a\n\n# b\r\n| c |",
    "\u202eesrever",
    "\udcff",
    "\\",
    "&",
]
WORKFLOW = PROJECT / ".github/workflows/metrics.yaml"


def sections(report: str) -> dict[str, str]:
    """The text under each heading."""
    parts = re.split(r"^## (.+)$", report, flags=re.MULTILINE)
    return {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without its header and rule."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def flat(metrics: dict, prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


class Page(HTMLParser):
    """What a browser makes of Markdown: the elements, the text of each cell, and what is text but not code."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.cells: list[str] = []
        self.text = self.loose = ""
        self.feed(MarkdownIt("commonmark").enable("table").render(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.elements.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\u200b", "")
        if "code" not in self.open:
            self.loose += data
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data.replace("\u200b", "")


# All that the report is made of.
ELEMENTS = {"h1", "h2", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "code"}


def printed(value: str) -> str:
    """A value as a page shows it: what has no picture is spelt as in Python."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_shown_as_the_text_that_it_is(value: str) -> None:
    table = Page(format_markdown(["a", shown(value)], [[shown(value), "1"]]))
    assert table.cells == ["a", printed(value), printed(value), "1"]
    assert table.elements == {"table", "thead", "tbody", "tr", "th", "td", "code"}
    for before, elements in (("# ", {"h1", "code"}), ("- ", {"ul", "li", "code"}), ("", {"p", "code"})):
        page = Page(before + shown(value))
        assert page.elements == elements
        assert page.text.strip() == printed(value)
        # Mentions, references and emoji are made of what is not code, links also of what is.
        assert page.loose.strip() == ""
    assert not re.search(r"@\w|\w:|www\.", shown(value).replace("&#64;", "@").replace("&#46;", "."), re.IGNORECASE)


@pytest.mark.parametrize(
    "value",
    [
        *NAMES,
        "params.yaml",
        "train_nn.max_steps",
        "origin/main",
        "metrics/metrics.json",
        "café",
        25,
        0.125,
        -1e-05,
        True,
    ],
)
def test_a_plain_value_stays_as_it_is(value: object) -> None:
    assert shown(value) == str(value)
    assert Page(shown(value)).text.strip() == str(value)


def test_a_long_value_is_cut() -> None:
    assert Page(shown("<" * 1000)).text.strip() == "<" * 59 + "…"
    assert shown("x" * 60) == "x" * 60


@pytest.mark.parametrize("what", ["metrics", "params"])
@pytest.mark.parametrize("value", HOSTILE)
def test_what_dvc_says_is_tabulated_as_text(what: str, value: str) -> None:
    lines = tabulate_diff(what, "abc1234", {value: {value: {"old": [value], "new": value}, "z": {"old": 0.1234567}}})
    page = Page("\n".join(lines))
    assert page.elements <= ELEMENTS
    columns = ["Path", "Metric", "abc1234", "workspace", "Change"]
    rounded = "0.12346"
    if what == "params":
        columns, rounded = ["Path", "Param", "abc1234", "workspace"], "0.1234567"
    n = len(columns)
    header, first, second = (page.cells[i : i + n] for i in (0, n, 2 * n))
    first, second = sorted((first, second), key=lambda row: row[1] == "z")
    assert header == columns
    assert [first[0], first[1], first[3]] == [printed(value)] * 3
    assert second[:4] == [printed(value), "z", rounded, "-"]


def write_plots(folder: Path, model: str, classes: list[str], accuracy: float = 0.5, shift: int = 0) -> None:
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    by_class = pd.DataFrame({"class": classes, "accuracy": accuracy})
    by_class.to_csv(folder / PLOTS / f"{model}_class_accuracy.csv", index=False)
    answers = pd.DataFrame({"actual": classes, "predicted": classes[shift:] + classes[:shift]})
    answers.to_csv(folder / PLOTS / f"{model}_confusion.csv", index=False)


def git(*arguments: str) -> None:
    author = ["-c", "user.name=A. Tester", "-c", "user.email=tester@example.com"]
    subprocess.run(["git", *author, *arguments], check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the files of two models whose answers are then changed; DVC finds nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BASE", raising=False)
    monkeypatch.setattr(pr_report, "dvc_diff", lambda what, start: {})
    (tmp_path / "dvc.lock").write_text("stages: {}")
    for model in ("logreg", "nn"):
        write_plots(tmp_path, model, NAMES)
    git("init", "--quiet", "--initial-branch=main")
    commit()
    for model in ("logreg", "nn"):
        write_plots(tmp_path, model, NAMES, accuracy=0.75, shift=1)
    return tmp_path


def commit() -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", "So it was")


def stopped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command, which ends with status 2, and give the line that it says."""
    monkeypatch.setattr(sys, "argv", ["pr_report.py", *arguments, "--report", "report.md"])
    with pytest.raises(SystemExit) as end:
        run(pr_report.main)
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert not Path("report.md").exists()
    return said.err


def test_the_whole_report_is_sound_with_hostile_names(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = [name for name in HOSTILE if name != "\udcff"]
    (tree / "dvc.lock").write_text(json.dumps({"stages": {name: {"cmd": "a"} for name in HOSTILE}}))
    monkeypatch.setattr(
        pr_report, "dvc_diff", lambda what, start: {"params.yaml": {name: {"old": name, "new": 1} for name in HOSTILE}}
    )
    model = "<b>@everyone `x`"
    write_plots(tree, model, classes)
    branch = "<b>@everyone|`x`#1"
    git("branch", branch)

    pr_report.main(base=branch, report=Path("report.md"))

    text = (tree / "report.md").read_text()
    assert text.startswith(f"{MARKER}\n")
    page = Page(text)
    assert page.elements == ELEMENTS
    assert f"Results, compared with {branch} at " in page.text
    assert f"Confusion matrix: {model}" in page.text
    assert {printed(name) for name in HOSTILE} <= set(page.cells) | set(page.text.splitlines())
    assert not re.search(r"[@<>`#*:!$~]", page.loose.replace("compared with", "").replace(": ", " "))
    assert set(sections(text)) >= {"Metrics", "Parameters", "Stages that ran again", "Confusion matrix: nn"}


@pytest.mark.parametrize(("n_classes", "n_models"), [(70, 2), (90, 2), (200, 2), (200, 30), (40, 12)])
def test_a_report_of_many_classes_fits_in_a_comment(tree: Path, n_classes: int, n_models: int) -> None:
    classes = [f"<class> №{i}" for i in range(n_classes)]
    for i in range(n_models):
        write_plots(tree, f"model{i:02}", classes)
    commit()
    for i in range(n_models):
        write_plots(tree, f"model{i:02}", classes, accuracy=0.75, shift=1)

    pr_report.main(base="HEAD", report=Path("report.md"))

    text = (tree / "report.md").read_text()
    assert len(text.encode()) < LIMIT
    assert text.count("<details>") == text.count("</details>")
    report = sections(text)
    for i in range(min(n_models, 8)):
        matrix = report[f"Confusion matrix: model{i:02}"]
        assert "in a comment; see metrics/plots/evaluation/model" in matrix or "| ---: |" in matrix
        assert rows(report[f"Classes whose accuracy moved most: model{i:02}"])
    assert f"see {PLOTS / f'model{min(n_models, 8) - 1:02}_confusion.csv'}" in text
    assert len(report) == 3 + 2 * min(n_models + 2, 10) + (n_models > 10)  # and two of the fixture
    assert ("Other models" in report) == (n_models > 10)


def test_a_matrix_that_fits_is_there_and_one_that_cannot_is_named(tree: Path) -> None:
    write_plots(tree, "small", [f"c{i}" for i in range(60)])
    write_plots(tree, "large", [f"c{i}" for i in range(200)])
    pr_report.main(base="main", report=Path("report.md"))
    report = sections((tree / "report.md").read_text())
    assert len(rows(report["Confusion matrix: small"].split("</details>")[1])) == 60
    said = f"Changed. The matrices of 200 classes do not fit in a comment; see {PLOTS}/large_confusion.csv."
    assert report["Confusion matrix: large"] == said


def test_what_is_too_long_is_cut_and_what_follows_is_still_there() -> None:
    long = Section("Long", ["| a |", "| --- |", *(f"| {i:099} |" for i in range(2000))], "`a file`")
    text = fit(MARKER, [long, Section("Short", ["no change"], "`another`"), long])
    assert LIMIT - 1000 < len(text) < LIMIT
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    assert parts[1].endswith(" |\n\nCut to fit in a comment; see `a file`.\n\n")
    assert parts[2] == "Short\n\nno change\n\n"
    assert parts[3].endswith("\n\nCut to fit in a comment; see `a file`.\n")


NO_TABLES = [b"", b"\x89PNG\r\n\x1a\n\0\0", b"\xff\xfe,1\n", b"[1, 2]", b"a,b\n1,2\n", b"class;accuracy\n"]
NO_ACCURACIES = [
    b"Bag,high\n",
    b"Bag,\n",
    b"Bag,2\n",
    b"Bag,-1\n",
    b"Bag\n",
    b"Bag,1\nBag,1\n",
    b"A,Bag,1\n",
    b'"Bag,1\n',
]
NO_ANSWERS = [b"Bag\n", b"A,Bag,1\n", b'"Bag,Bag\n']


@pytest.mark.parametrize(
    ("what", "content"),
    [(what, content) for what in ("class_accuracy", "confusion") for content in NO_TABLES]
    + [("class_accuracy", b"class,accuracy\n" + content) for content in NO_ACCURACIES]
    + [("confusion", b"actual,predicted\n" + content) for content in NO_ANSWERS],
)
def test_a_table_that_is_none_is_named_with_its_side(what: str, content: bytes) -> None:
    with pytest.raises(InputError, match=rf"^{PLOTS}/nn_{what}\.csv at abc1234: .+$"):
        read_table("at abc1234", {f"nn_{what}.csv": content}, "nn", what)


@pytest.mark.parametrize("side", ["commit", "tree"])
@pytest.mark.parametrize(("what", "content"), [("class_accuracy", b"\x89PNG\r\n"), ("confusion", None)])
def test_a_table_that_is_none_or_missing_is_one_line(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
    content: bytes | None,
    side: str,
) -> None:
    file = tree / PLOTS / f"nn_{what}.csv"
    good = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    if side == "commit":
        commit()
        file.write_bytes(good)
    start = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    where = f"at {start}" if side == "commit" else "in the working tree"
    said = "missing" if content is None else "not CSV with the columns class,accuracy"
    assert f"{PLOTS}/nn_{what}.csv {where}: {said}\n" in stopped(monkeypatch, capsys, "--base", "HEAD")


def test_classes_that_read_like_missing_values_or_numbers_are_classes(tree: Path) -> None:
    write_plots(tree, "nn", ["NA", "null", "007", "1e3"])
    files = list_plots()
    assert list(read_table("here", files, "nn", "class_accuracy")["class"]) == ["NA", "null", "007", "1e3"]
    pr_report.main(base="main", report=Path("report.md"))
    header = next(line for line in (tree / "report.md").read_text().splitlines() if "1e3" in line and "actual" in line)
    assert {"NA", "null", "007", "1e3"} <= {cell.strip() for cell in header.split("|")}


def test_a_model_that_one_side_lacks_is_compared_with_nothing(tree: Path) -> None:
    for file in (tree / PLOTS).glob("nn_*"):
        file.unlink()
    write_plots(tree, "forest", ["Bag"])
    pr_report.main(base="main", report=Path("report.md"))
    report = sections((tree / "report.md").read_text())
    assert rows(report["Classes whose accuracy moved most: forest"]) == [["Bag", "-", "50.0", "-"]]
    assert {tuple(row[1:]) for row in rows(report["Classes whose accuracy moved most: nn"])} == {("50.0", "-", "-")}


@pytest.mark.parametrize("content", ["[1]", "stages: [1]", "a: [", "\0"])
def test_a_lock_that_is_none_is_named(content: str) -> None:
    with pytest.raises(InputError, match=r"dvc\.lock"):
        changed_stages("", content)


@pytest.mark.parametrize(
    "base", ["nowhere", "--all", "--output=pwned", "-h", "$(touch pwned)", "`touch pwned`", "a\nb"]
)
def test_a_base_is_a_name_and_nothing_else(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], base: str
) -> None:
    monkeypatch.setenv("BASE", base)
    assert f"no branch or commit {base!r} here" in stopped(monkeypatch, capsys)
    assert not list(tree.rglob("pwned"))


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "exported"])
@pytest.mark.parametrize(
    "base",
    [
        "--output=pwned",
        "$(touch pwned)",
        "$(shell touch pwned)",
        "`touch pwned`; '; touch pwned; '; \"; touch pwned; \"",
        "a\ntouch pwned $$HOME ${HOME} #",
    ],
)
def test_make_gives_the_base_on_as_it_is(tree: Path, base: str, typed: bool) -> None:
    for file in ("Makefile", "params.yaml"):
        shutil.copy(PROJECT / file, tree)
    command = ["make", f"BIN={BIN}", "--old-file=.venv/installed", "pr-report", *([f"BASE={base}"] if typed else [])]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "BASE": "main" if typed else base}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"pr-report: no branch or commit {base!r} here\n" in done.stderr
    assert not list(tree.rglob("pwned"))


def test_a_base_that_reads_like_an_option_is_found(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("update-ref", "refs/heads/--all", "HEAD")
    monkeypatch.setenv("BASE", "--all")
    monkeypatch.setattr(sys, "argv", ["pr_report.py", "--report", "report.md"])
    run(pr_report.main)
    assert "Results, compared with --all at " in Page((tree / "report.md").read_text()).text


def test_the_report_says_what_both_sides_files_say(with_experiment: Clone, tmp_path: Path) -> None:
    clone = with_experiment.copy_to(tmp_path / "clone")
    clone.git("checkout", "--quiet", "-b", "half")
    clone.sh("dvc exp run -S percentile=50")
    clone.git("commit", "--quiet", "--all", "--message", "Spread over half")
    # What others do on the base branch meanwhile is no change of this one.
    clone.git("checkout", "--quiet", "main")
    clone.set_params({"train_logreg.C": 0.2})
    clone.git("commit", "--quiet", "--all", "--message", "Elsewhere")
    clone.git("checkout", "--quiet", "half")

    clone.sh("make pr-report BASE=main")

    report = sections((clone.path / "report.md").read_text())
    assert clone.git("status", "--porcelain") == ""
    start = clone.git("merge-base", "main", "half").strip()
    before, after = flat(json.loads(clone.git("show", f"{start}:metrics/metrics.json"))), flat(clone.metrics())
    moved = {name for name in after if before[name] != after[name]}
    assert moved
    table = {row[1]: row[2:] for row in rows(report["Metrics"])}
    assert set(table) == moved
    for name, (old, new, change) in table.items():
        assert [float(old), float(new)] == pytest.approx([before[name], after[name]], abs=1e-5)
        assert float(change) == pytest.approx(after[name] - before[name], abs=1e-5)
    assert rows(report["Parameters"]) == [["params.yaml", "percentile", "25", "50"]]
    assert report["Stages that ran again"].splitlines() == [
        *("- propagate", "- train-logreg", "- train-nn", "- evaluate", "- check-parameters")
    ]

    for model in ("logreg", "nn"):
        name = f"metrics/plots/evaluation/{model}_confusion.csv"
        folded = report[f"Confusion matrix: {model}"].split("</details>")
        for text, csv in zip(
            folded, (clone.git("show", f"{start}:{name}"), (clone.path / name).read_text()), strict=False
        ):
            answers = [tuple(line.split(",")) for line in csv.splitlines()[1:]]
            cells = rows(text)
            classes = [row[0] for row in cells]
            assert len(classes) == 10
            for actual, *counts in cells:
                assert [int(count) for count in counts] == [answers.count((actual, answer)) for answer in classes]

        name = f"metrics/plots/evaluation/{model}_class_accuracy.csv"
        was, became = (
            dict(line.rsplit(",", 1) for line in csv.splitlines()[1:])
            for csv in (clone.git("show", f"{start}:{name}"), (clone.path / name).read_text())
        )
        changes = {c: 100 * (float(became[c]) - float(was[c])) for c in became}
        shown = {row[0]: float(row[3]) for row in rows(report[f"Classes whose accuracy moved most: {model}"])}
        assert shown == pytest.approx({c: changes[c] for c in shown}, abs=0.06)
        others = [abs(change) for c, change in changes.items() if c not in shown]
        assert min(abs(change) for change in shown.values()) >= max(others) - 0.06


def test_the_table_of_experiments_has_the_columns_that_matter(clone: Clone) -> None:
    default = yaml.safe_load((clone.path / "params.yaml").read_text())["train_logreg"]["C"]
    clone.sh("dvc exp run -S train_logreg.C=1")
    header, _, base, experiment = [line.strip("|").split("|") for line in clone.sh("make compare").strip().splitlines()]
    assert [cell.strip() for cell in header] == ["Experiment", "logreg.accuracy", "train_logreg.C"]
    assert [row[-1].strip() for row in (base, experiment)] == [str(default), "1"]


def test_dvc_compares_the_workspace_with_a_branch(with_experiment: Clone, tmp_path: Path) -> None:
    clone = with_experiment.copy_to(tmp_path / "clone")
    clone.sh("dvc exp run -S percentile=50")
    assert "propagation.coverage" in clone.sh("dvc metrics diff main")
    assert "percentile" in clone.sh("dvc params diff main")
    clone.sh("dvc plots diff main")
    assert "Network: confusion matrix" in (clone.path / "dvc_plots/index.html").read_text()


def test_no_change_says_so(clone: Clone) -> None:
    clone.sh("make pr-report BASE=main")
    report = sections((clone.path / "report.md").read_text())
    assert len(report) == 7
    assert set(report.values()) == {"no change"}


def test_an_unknown_base_is_one_line(clone: Clone) -> None:
    done = clone.call("python", "-m", "tools.pr_report", "--base", "nowhere", "--report", "report.md", check=False)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert "nowhere" in done.stdout
    assert not (clone.path / "report.md").exists()


def test_changed_stages_are_those_with_another_entry() -> None:
    before = "stages: {same: {cmd: a}, other: {cmd: b}, gone: {cmd: c}}"
    after = "stages: {new: {cmd: d}, same: {cmd: a}, other: {cmd: e}}"
    assert changed_stages(before, after) == ["new", "other", "gone"]
    assert changed_stages("", after) == ["new", "same", "other"]


def test_the_three_classes_that_moved_most_come_first_up_or_down() -> None:
    before = pd.Series({"Bag": 10.0, "Coat": 20.0, "Dress": 30.0, "Shirt": 40.0, "Sandal": 50.0})
    after = pd.Series({"Bag": 10.0, "Coat": 15.0, "Dress": 31.0, "Shirt": 47.0, "Sandal": 52.0})
    assert list(moved_most(before, after).index) == ["Shirt", "Coat", "Sandal"]


def test_a_class_never_answered_keeps_its_column() -> None:
    counts = count_confusions(
        pd.DataFrame({"actual": ["Bag", "Bag", "Coat"], "predicted": ["Bag", "Coat", "Coat"]}), NAMES
    )
    assert counts.shape == (10, 10)
    assert counts.loc["Bag", "Coat"] == 1
    assert counts.to_numpy().sum() == 3


def test_the_workflow_fits_github_s_schema_and_calls_make() -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*checker, WORKFLOW], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    commands = [step.get("run", "") for step in steps()]
    assert "make pr-report" in commands
    assert not any("repro" in command for command in commands)


def steps() -> list[dict[str, Any]]:
    return yaml.safe_load(WORKFLOW.read_text())["jobs"]["report"]["steps"]


def test_the_workflow_may_do_no_more_than_it_needs_and_runs_no_name() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert workflow["jobs"]["report"]["env"] == {"BASE": "origin/${{ github.base_ref }}"}
    assert not any("${{" in step.get("run", "") for step in steps())
    checkout = next(step for step in steps() if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["persist-credentials"] is False


@pytest.mark.parametrize(
    ("found", "method", "target"), [("", "POST", "7/comments"), ("31\n32", "PATCH", "comments/31")]
)
def test_the_workflow_writes_to_the_comment_with_the_marker(
    tmp_path: Path, found: str, method: str, target: str
) -> None:
    (tmp_path / "gh").write_text(
        '#!/bin/sh\nprintf "%s\\0" "$@" >>said; echo >>said\n[ "$2" = --silent ] || echo "$FOUND"\n'
    )
    (tmp_path / "gh").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "FOUND": found, "NUMBER": "7", "GITHUB_REPOSITORY": "a/b"}
    subprocess.run(["bash", "-e", "-c", steps()[-1]["run"]], cwd=tmp_path, env=environment, check=True)
    listing, writing = re.findall(r"api\0(.*?)\0\n", (tmp_path / "said").read_text(), re.DOTALL)
    assert listing.split("\0")[:3] == ["--paginate", "repos/a/b/issues/7/comments", "--jq"]
    assert f'startswith("{MARKER}")' in listing
    assert '.user.login == "github-actions[bot]"' in listing
    assert writing.split("\0") == [
        "--silent",
        "--method",
        method,
        f"repos/a/b/issues/{target}",
        "--field",
        "body=@report.md",
    ]
