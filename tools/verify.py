"""Run the committed pipeline from an empty cache in a scratch clone, and compare what it makes with what is committed.

``make verify`` says whether this machine makes the committed bytes. Where it does, its processor is noted in
``metrics/machines.csv``, which tells on which machines a state of ``dvc.lock`` was seen.
"""

import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pandas as pd
from typer import Option

from few_labels.artifacts import replacing
from few_labels.errors import InputError
from stages import run
from tools.check import LOCK, Output, hash_file, read_outputs
from tools.clones import check_out, reproduce
from tools.git import list_changes


def main(
    machines: Annotated[Path, Option(help="CSV: the machines that made the committed bytes")] = Path(
        "metrics/machines.csv"
    ),
) -> None:
    changed = [path for path in list_changes(Path()) if path != str(machines)]
    if changed:
        raise InputError(f"{', '.join(changed)} not as committed, and what is committed is verified: commit first")
    if not LOCK.exists():
        raise InputError(f"there is no {LOCK} to compare with: make repro, and commit what it writes")
    # In DVC's own folder, whose file system has room for the pipeline, and may link images of one's own.
    with TemporaryDirectory(dir=".dvc/tmp", prefix="verify-") as scratch:
        clone = Path(scratch, "clone")
        check_out(clone)
        reproduce(clone)
        differences = describe_differences(read_outputs(LOCK), read_outputs(clone / LOCK))
        if not differences and (changed := list_changes(clone)):
            differences = [f"outputs are as committed, {', '.join(changed)} not: make repro, and commit what it writes"]
    for difference in differences:
        print(f"verify: {difference}", file=sys.stderr)
    if differences:
        raise SystemExit(1)
    seen = note(read_machines(machines), name_processor(), datetime.now(UTC).date().isoformat(), hash_file(LOCK))
    with replacing(machines) as temporary:
        seen.to_csv(temporary, index=False)
    print(f"every output came out as committed; this machine is noted in {machines}")


def describe_differences(committed: Sequence[Output], made: Sequence[Output]) -> list[str]:
    """Name the stages that made other bytes from equal ones, and count what differs.

    Parameters
    ----------
    committed, made : sequence of Output
        In the order of the stages.

    Returns
    -------
    list of str
        Empty where all is equal. The first stage alone is at fault for sure: what follows had other inputs.
    """
    md5 = {each.path: each.md5 for each in made}
    different = [each for each in committed if md5.get(each.path) != each.md5]
    if not different:
        return []
    first = different[0].stage
    paths = ", ".join(str(each.path) for each in different if each.stage == first)
    return [f"{len(different)} of {len(committed)} outputs are not as committed, from stage {first} on: {paths}"]


def name_processor() -> str:
    """Name the processor as it names itself, with what tells generations of one brand apart, where Linux says so."""
    try:
        lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()]
    except OSError:
        return platform.processor() or platform.machine()
    said = {name.strip(): value.strip() for name, value in lines}
    if "model name" not in said:
        return platform.machine()
    return f"{said['model name']}, family {said.get('cpu family', '?')}, model {said.get('model', '?')}"


def read_machines(path: Path) -> pd.DataFrame:
    """Read the table of machines, an empty one where there is none."""
    columns = ["processor", "date", "dvc_lock_md5"]
    return pd.read_csv(path, dtype=str) if path.exists() else pd.DataFrame(columns=columns)


def note(machines: pd.DataFrame, processor: str, date: str, md5: str) -> pd.DataFrame:
    """Add a line for a machine and a state of dvc.lock, or renew the date of the one that is there.

    Parameters
    ----------
    machines : DataFrame
        ``processor``, ``date`` and ``dvc_lock_md5``.
    processor : str
    date : str
        ISO 8601.
    md5 : str
        Of dvc.lock.

    Returns
    -------
    DataFrame
    """
    known = (machines["processor"] == processor) & (machines["dvc_lock_md5"] == md5)
    line = pd.DataFrame([[processor, date, md5]], columns=machines.columns)
    return pd.concat([machines[~known], line], ignore_index=True)


if __name__ == "__main__":
    run(main)
