"""Make one model of the study under study/models/, as ``make model NAME=kmeans_2000`` does, at the published seed.

What of its run is in DVC's cache is not computed again.
"""

from pathlib import Path
from shutil import copyfile
from typing import Annotated

import yaml
from typer import Option

from few_labels.artifacts import replacing
from few_labels.errors import InputError, quote
from stages import run as run_command
from study.plan import PROJECT, list_runs, read_plan
from study.run import CLONE, prepare
from tools.clones import reproduce, write_parameters

SEED = 42
MADE_BY = {"kmeans.joblib": "kmeans", "logreg.joblib": "train-logreg", "nn.keras": "train-nn"}


def main(
    name: Annotated[str, Option(envvar="NAME", help="a model of rows.yaml; its suffix may be left out")] = "",
) -> None:
    published = yaml.safe_load((PROJECT / "study" / "rows.yaml").read_text(encoding="utf-8"))
    models = published["rows"] | published["clusterings"]
    file = find_file(name, list(models))
    wanted, model = models[file]["run"], models[file]["model"]
    (run,) = [run for run in list_runs(read_plan()) if (run.name, run.seed) == (wanted, SEED)]
    prepare()
    write_parameters(CLONE, run.settings_with_seed)
    reproduce(CLONE, MADE_BY[model])
    path = Path("study/models", file)
    with replacing(path) as temporary:
        copyfile(CLONE / "models" / model, temporary)
    print(f"{path}: made by {wanted} at seed {SEED}")


def find_file(name: str, files: list[str]) -> str:
    """Give the file of a model that a person names, with its suffix or without.

    Raises
    ------
    InputError
        If there is none; the message lists all.
    """
    by_name = {spelling: file for file in files for spelling in (file, Path(file).stem)}
    if name not in by_name:
        allowed = sorted(Path(file).stem for file in files)
        raise InputError("\n  ".join([f"NAME is {quote(name)}, allowed are the models of study/rows.yaml:", *allowed]))
    return by_name[name]


if __name__ == "__main__":
    run_command(main)
