"""What helps people to work together fits its forms, and says what the Makefile does."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.conftest import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        (".github/ISSUE_TEMPLATE/problem.yml", "vendor.github-issue-forms"),
        (".github/ISSUE_TEMPLATE/idea.yml", "vendor.github-issue-forms"),
        (".github/ISSUE_TEMPLATE/config.yml", "vendor.github-issue-config"),
        ("CITATION.cff", "vendor.citation-file-format"),
    ],
)
def test_a_form_is_one_that_its_reader_takes(file: str, schema: str) -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--default-filetype", "yaml", "--builtin-schema", schema, file]
    done = subprocess.run(checker, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_hooks_run_what_make_lint_runs_and_fetch_nothing() -> None:
    (repository,) = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert all(hook["language"] == "system" for hook in repository["hooks"])
    entries = {hook["entry"].replace(" --force-exclude", "") for hook in repository["hooks"]}
    recipe = MAKEFILE.split("\nlint:")[1].split("\n\n")[0]
    linted = {f".venv/bin/{command}" for command in re.findall(r"\$\(BIN\)/(.+)", recipe)}
    assert entries == linted | {"make test-quick"}


def test_every_python_that_make_takes_is_tested() -> None:
    workflow = yaml.safe_load((PROJECT / ".github/workflows/tests.yaml").read_text())
    first, last = map(int, re.findall(r"\(3, (\d+)\)", MAKEFILE.split(".venv/installed: requirements.txt")[1])[:2])
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tested == [f"3.{minor}" for minor in range(first, last + 1)]
    run = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert {"make lint", "make test-quick", "make test"} <= set(run)


def test_the_changes_keep_their_form() -> None:
    changes = (PROJECT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", changes, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    kinds = set(re.findall(r"^### (.+)$", changes, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
