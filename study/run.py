"""Run what is missing of the study, as ``make study`` does, and write its tables.

Where a row's grades are in git and nothing that it depends on has changed, it counts as done, also in a clone without
the models. What a missing row depends on, such as a clustering, is made again or taken from the cache.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from dvc.repo import Repo
from typer import Option

from stages import run
from study import tabulate

FOLDER = Path(__file__).parent
OPTIONAL = "published-network@"
OF_A_SEED = re.compile(r"@(\d+)-")


def main(
    seed: Annotated[list[int] | None, Option(help="a seed to run, or more; all without")] = None,
    published_network: Annotated[bool, Option(help="run the published network's rows too, which takes long")] = False,
) -> None:
    before: list[str] = []
    # A stage that ran can change the input of one that counted as done.
    while (missing := list_missing(seed, published_network)) and missing != before:
        if subprocess.run([sys.executable, "-m", "dvc", "repro", *missing], cwd=FOLDER, check=False).returncode:
            raise SystemExit("the study stopped at the stage above; what ran before it is kept")
        before = missing
    tabulate.main()


def list_missing(seeds: list[int] | None, published_network: bool) -> list[str]:
    """Ask DVC which stages have to run, not counting those that only lack files which dvc.lock records.

    Parameters
    ----------
    seeds : list of int or None
        Whose stages count; those of no seed always do.
    published_network : bool
        Whether the rows of the published network count.

    Returns
    -------
    list of str
    """
    with Repo(str(FOLDER)) as repo, repo.lock:
        graph = repo.index.graph
        changed = [stage.name for stage in graph if stage.changed(True, list(graph.successors(stage)))]
    return [
        name
        for name in changed
        if (published_network or not name.startswith(OPTIONAL))
        and (seeds is None or (match := OF_A_SEED.search(name)) is None or int(match[1]) in seeds)
    ]


if __name__ == "__main__":
    run(main)
