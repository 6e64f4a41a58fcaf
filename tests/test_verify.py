"""A run from an empty cache gives the committed bytes, or says where it does not."""

from pathlib import Path

import pandas as pd

from tests.conftest import Clone
from tools.check import Output
from tools.verify import describe_differences, name_processor, note, read_machines

MACHINES = "metrics/machines.csv"


def test_a_machine_that_makes_the_committed_bytes_is_noted(clone: Clone) -> None:
    clone.git("rm", "--quiet", "--ignore-unmatch", MACHINES)
    clone.git("commit", "--quiet", "--all", "--allow-empty", "--message", "as it was run")
    output = clone.sh("make verify")
    assert "Running stage 'evaluate'" in output  # nothing came from a cache
    assert f"every output came out as committed; this machine is noted in {MACHINES}" in output
    [machine] = pd.read_csv(clone.path / MACHINES).to_dict("records")
    assert machine["processor"] == name_processor()
    assert machine["dvc_lock_md5"] == clone.call("md5sum", "dvc.lock").stdout.split()[0]
    assert not list((clone.path / ".dvc/tmp").glob("verify-*"))

    (clone.path / "params.yaml").write_text((clone.path / "params.yaml").read_text() + "# a note\n")
    done = clone.call("python", "-m", "tools.verify", check=False)
    assert done.returncode == 2
    assert "verify: params.yaml not as committed, and what is committed is verified: commit first" in done.stdout


def test_the_first_stage_that_made_other_bytes_is_named() -> None:
    committed = [Output(Path(name), "0", stage) for name, stage in [("a", "embed"), ("b", "kmeans"), ("c", "evaluate")]]
    made = [Output(each.path, "1" if each.stage != "embed" else "0", each.stage) for each in committed]
    assert describe_differences(committed, committed) == []
    assert describe_differences(committed, made) == ["2 of 3 outputs are not as committed, from stage kmeans on: b"]
    assert describe_differences(committed, committed[:2]) == [
        "1 of 3 outputs are not as committed, from stage evaluate on: c"
    ]


def test_a_machine_has_one_line_for_each_state_of_the_lock(tmp_path: Path) -> None:
    machines = read_machines(tmp_path / "none.csv")
    for processor, date, md5 in [("A", "2026-01-01", "x"), ("B", "2026-01-02", "x"), ("A", "2026-01-03", "y")]:
        machines = note(machines, processor, date, md5)
    again = note(machines, "A", "2026-01-04", "x")
    assert again.to_numpy().tolist() == [["B", "2026-01-02", "x"], ["A", "2026-01-03", "y"], ["A", "2026-01-04", "x"]]
