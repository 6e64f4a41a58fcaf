"""What runs here from elsewhere is named by its content: packages by hash, actions by commit."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

INSTALLED = ["requirements.txt", "requirements-test.txt"]
AUDITED = [*INSTALLED, ".github/pip-audit.txt"]
LOCKS = [*AUDITED, "benchmarks/peers.txt"]
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yaml"))
AUDIT = yaml.safe_load((PROJECT / ".github/workflows/audit.yaml").read_text())


def packages(lock: str) -> list[str]:
    """The entries of a file of pinned packages, each in one line."""
    text = re.sub(r"^ *#.*\n", "", (PROJECT / lock).read_text(), flags=re.MULTILINE)
    return re.sub(r" \\\n +", " ", text).splitlines()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_one_version_and_its_hashes_and_no_address(lock: str) -> None:
    pinned = r"[a-z0-9-]+==[\w.]+( ; [^:#@]+?)?( --hash=sha256:[0-9a-f]{64})+"
    assert [package for package in packages(lock) if not re.fullmatch(pinned, package)] == []
    assert "://" not in (PROJECT / lock).read_text()


@pytest.mark.parametrize("lock", INSTALLED)
def test_every_direct_dependency_is_pinned(lock: str) -> None:
    listed = (PROJECT / lock).with_suffix(".in").read_text()
    direct = re.findall(r"^([\w.-]+)", listed.replace(".", "-"), re.MULTILINE)
    pinned = {package.partition("==")[0] for package in packages(lock)}
    assert direct
    assert [name for name in direct if name not in pinned] == []


def test_what_the_tests_bring_changes_nothing_that_the_pipeline_runs_on() -> None:
    pipeline, tests = (
        {tuple(package.partition(" --hash")[0].partition(" ; ")[0].split("==")) for package in packages(lock)}
        for lock in INSTALLED
    )
    names = {name for name, _ in pipeline}
    assert {(name, version) for name, version in tests if name in names} <= pipeline


def test_only_make_test_brings_what_only_tests_need(tmp_path: Path) -> None:
    for file in ("Makefile", "params.yaml", *INSTALLED):
        shutil.copy(PROJECT / file, tmp_path)
    for target, files in {"test": INSTALLED, "lint": INSTALLED[:1], "repro": INSTALLED[:1]}.items():
        command = ["make", "--dry-run", target]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert re.findall(r"--require-hashes --requirement (\S+)", done.stdout) == files


@pytest.mark.parametrize("lock", INSTALLED)
@pytest.mark.parametrize(
    ("entry", "said"),
    [("nothing==1.0", "Hashes are required"), (f"nothing==1.0 --hash=sha256:{'0' * 64}", "DO NOT MATCH THE HASHES")],
    ids=["bare", "swapped"],
)
def test_what_does_not_have_its_hash_is_not_installed(tmp_path: Path, lock: str, entry: str, said: str) -> None:
    with zipfile.ZipFile(tmp_path / "nothing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("nothing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
        wheel.writestr("nothing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("nothing-1.0.dist-info/RECORD", "")
    for file in ("Makefile", "params.yaml"):
        shutil.copy(PROJECT / file, tmp_path)
    for file in INSTALLED:
        (tmp_path / file).write_text(f"{entry}\n" if file == lock else "")
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    stamp = {"requirements.txt": ".venv/installed", "requirements-test.txt": ".venv/tested"}[lock]
    command = ["make", f"PYTHON={sys.executable}", stamp]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (tmp_path / stamp).exists()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_every_action_is_pinned_to_a_commit_whose_version_stands_beside_it(workflow: Path) -> None:
    used = re.findall(r"^ *(?:- )?uses:(.*)$", workflow.read_text(), re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r" [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_every_workflow_fits_github_s_schema_and_keeps_no_credentials(workflow: Path) -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*checker, workflow], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"]["contents"] == "read"
    for step in (step for job in content["jobs"].values() for step in job["steps"]):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_the_audit_reads_what_is_installed_when_it_changes_and_every_week() -> None:
    when: dict[str, Any] = AUDIT[True]  # what YAML makes of "on"
    for event in ("pull_request", "push"):
        assert set(AUDITED) <= set(when[event]["paths"])
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", when["schedule"][0]["cron"])
    assert AUDIT["permissions"] == {"contents": "read"}
    commands = [step["run"] for step in AUDIT["jobs"]["audit"]["steps"] if "run" in step]
    assert "--require-hashes" in commands[0]
    assert commands[1].startswith("pip-audit --strict --require-hashes ")
    assert commands[1].endswith("".join(f" --requirement {lock}" for lock in INSTALLED))
