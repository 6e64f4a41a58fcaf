"""The study holds every published row, leaks no label, reruns what a change reaches, and its tables are its results."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from study import tabulate
from study.model import find_file
from tests.conftest import BIN, PROJECT, Clone, executed
from tests.test_graph import imported_modules

STUDY = PROJECT / "study"
ROWS = yaml.safe_load((STUDY / "rows.yaml").read_text())
PARAMS = yaml.safe_load((STUDY / "params.yaml").read_text())
STAGES = {
    name: stage.get("do", stage) for name, stage in yaml.safe_load((STUDY / "dvc.yaml").read_text())["stages"].items()
}
MAY_READ_TRAIN_LABELS = {"stages.select_labels", "study.grade"}
MAY_READ_TEST_LABELS = {"study.grade"}
WITHOUT_EFFECT_ON_RESULTS = {
    "stages/__init__.py",
    "study/__init__.py",
    "few_labels/__init__.py",
    "few_labels/cluster.py",
    "few_labels/errors.py",
    "few_labels/parameters.py",
}
# What nothing in the study leads to: a person's answers, pictures, suspects and temperatures.
NOT_REACHED = {f"few_labels/{name}.py" for name in ("ledger", "sheets", "suspects", "calibration")}


def commands(stage: dict) -> list[str]:
    return stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]


def modules(stage: dict) -> set[str]:
    return set(re.findall(r"-m ((?:stages|study)\.\w+)", " ".join(commands(stage)))) - {"study.fill"}


def reached_modules(path: str) -> set[str]:
    """The project's own files that a module needs in the study, itself included."""
    source, found = (PROJECT / path).read_text(), {path}
    for name in imported_modules(path) - {path} - NOT_REACHED:
        if f"from {name.removesuffix('.py').replace('/', '.')} import" in source:
            found |= reached_modules(name)
    return found


def test_every_published_row_and_clustering_has_its_name() -> None:
    published = [file for file, row in ROWS["rows"].items() if row["published"] is not None]
    assert len(published) == 28
    assert sum(file.endswith(".keras") for file in published) == 18
    assert len(ROWS["clusterings"]) == 4


def test_every_row_has_a_training_set_and_every_training_set_both_models() -> None:
    made = {(run, model) for run in PARAMS["training_sets"] for model in ("logreg.joblib", "nn.keras")}
    made |= {(f"distances_{k}", "logreg.joblib") for k in PARAMS["n_centroids"]}
    assert {(row["run"], row["model"]) for row in ROWS["rows"].values()} == made


@pytest.mark.parametrize("name", STAGES)
def test_labels_reach_only_the_modules_that_may_read_them(name: str) -> None:
    for command in commands(STAGES[name]):
        module = modules({"cmd": command})
        assert "train_labels.npy" not in command or module <= MAY_READ_TRAIN_LABELS
        assert "test_labels.npy" not in command or module <= MAY_READ_TEST_LABELS


@pytest.mark.parametrize("name", [name for name in STAGES if modules(STAGES[name])])
def test_a_stage_depends_on_the_code_that_can_change_its_result_and_no_other(name: str) -> None:
    reached = set().union(*(reached_modules(f"{module.replace('.', '/')}.py") for module in modules(STAGES[name])))
    named = {
        dep.removeprefix("../") if dep.startswith("../") else f"study/{dep}"
        for dep in STAGES[name]["deps"]
        if dep.endswith(".py")
    }
    assert named == reached - WITHOUT_EFFECT_ON_RESULTS | {"few_labels/kernels.py"}


@pytest.mark.parametrize("name", STAGES)
def test_a_command_names_its_inputs(name: str) -> None:
    stage, text = STAGES[name], re.sub(r"(?<!\$)\{(\w+)\}", r"${item.\1}", " ".join(commands(STAGES[name])))
    text = text.replace("${item.key}", "${key}")
    assert [dep for dep in stage["deps"] if not dep.endswith(".py") and dep not in text] == []
    made = [*stage.get("outs", []), *(next(iter(metric)) for metric in stage.get("metrics", []))]
    assert [out for out in made if out not in text] == []


@pytest.fixture(scope="module")
def small_study(small_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A study of one seed, one budget and one training set, run and committed."""
    clone = small_run.copy_to(tmp_path_factory.mktemp("small_study") / "clone")
    params = PARAMS | {
        "seeds": [42],
        "budgets": [20],
        "n_centroids": [10],
        "sweep_budget": [20],
        "sweep_percentiles": [50],
        "percentiles": [50],
        "training_sets": ["clusters_20_percentile_50"],
        "published_logreg": {"training_sets": ["clusters_20_percentile_50"]},
    }
    run = {"run": "clusters_20_percentile_50", "labels": 20, "setting": "percentile 50", "published": 0.1}
    rows = ROWS | {
        "rows": {"a.joblib": run | {"model": "logreg.joblib"}, "b.keras": run | {"model": "nn.keras"}},
        "clusterings": {"c.joblib": {"run": "clusters_20", "model": "kmeans.joblib"}},
    }
    write(clone, params, rows)
    for file in ("dvc.lock", "results"):
        clone.call("git", "rm", "-r", "-q", "--ignore-unmatch", f"study/{file}")
    clone.sh("make study")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "A small study")
    return clone


def write(clone: Clone, params: dict, rows: dict) -> None:
    (clone.path / "study" / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (clone.path / "study" / "rows.yaml").write_text(yaml.safe_dump(rows, sort_keys=False))


def test_a_small_study_makes_models_under_their_names_and_a_line_for_each(small_study: Clone) -> None:
    assert {path.name for path in (small_study.path / "study" / "models").iterdir()} - {".gitignore"} == {
        "a.joblib",
        "b.keras",
        "c.joblib",
    }
    table = pd.read_csv(small_study.path / "metrics" / "study.csv")
    assert list(table.columns) == tabulate.COLUMNS
    assert list(table["artifact"]) == ["a", "b", "published_logreg_clusters_20_percentile_50"]
    assert (table["labels"] == 20).all()
    assert (table["trained_on"] > 20).all()


def test_one_more_percentile_runs_its_own_rows_only(
    small_study: Clone, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clone = small_study.copy_to(tmp_path_factory.mktemp("percentile") / "clone")
    params = yaml.safe_load((clone.path / "study" / "params.yaml").read_text())
    params["sweep_percentiles"].append(60)
    params["training_sets"].append("clusters_20_percentile_60")
    write(clone, params, yaml.safe_load((clone.path / "study" / "rows.yaml").read_text()))
    assert set(executed(clone.sh("make study"))) == {
        "spread-sweep@42-20-60",
        "train-logreg@42-clusters_20_percentile_60",
        "train-nn@42-clusters_20_percentile_60",
        "grade@42-clusters_20_percentile_60",
    }


def test_a_clone_without_the_models_counts_graded_rows_as_done(
    small_study: Clone, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = Clone(tmp_path_factory.mktemp("elsewhere") / "clone")
    small_study.git("clone", "--quiet", str(small_study.path), str(elsewhere.path))
    assert not (elsewhere.path / "study" / "runs").exists()
    assert [stage for stage in executed(elsewhere.sh("make study")) if stage != "download"] == []
    assert elsewhere.git("status", "--porcelain") == ""
    # A row that is missing brings back what it needs.
    lock = elsewhere.path / "study" / "dvc.lock"
    recorded = yaml.safe_load(lock.read_text())
    del recorded["stages"]["grade@42-clusters_20_percentile_50"]
    lock.write_text(yaml.safe_dump(recorded, sort_keys=False))
    ran = executed(elsewhere.sh("make study"))
    assert "grade@42-clusters_20_percentile_50" in ran
    assert not any(stage.startswith("validate") for stage in ran)


@pytest.mark.parametrize("file", [*ROWS["rows"], *ROWS["clusterings"]])
def test_a_model_is_found_with_its_suffix_and_without(file: str) -> None:
    files = [*ROWS["rows"], *ROWS["clusterings"]]
    assert find_file(file, files) == find_file(file.rpartition(".")[0], files) == file


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nowhere",
        "models/kmeans_2000",
        "--help",
        "$(touch pwned)",
        "$(shell touch pwned)",
        "`touch pwned`; '; touch pwned; '; \"; touch pwned; \"",
        "a\ntouch pwned $$HOME ${HOME} #",
    ],
)
def test_a_name_is_text_and_a_wrong_one_lists_all(tmp_path: Path, name: str) -> None:
    for tracked in ("Makefile", "params.yaml", "requirements.txt", "study", "stages", "few_labels", "tools"):
        (tmp_path / tracked).symlink_to(PROJECT / tracked)
    elsewhere = Clone(tmp_path)
    said = elsewhere.call(
        "make", f"BIN={BIN}", "--old-file=.venv/installed", "--no-print-directory", "model", f"NAME={name}", check=False
    )
    assert said.returncode == 2
    first, *listed, end = said.stdout.splitlines()
    assert first == f"model: NAME is {name!r}, allowed are the models of study/rows.yaml:"
    assert listed == sorted(f"  {file.rpartition('.')[0]}" for file in [*ROWS["rows"], *ROWS["clusterings"]])
    assert end.startswith("make")
    assert not (tmp_path / "pwned").exists()


def clone_of(study: Clone, path: Path) -> Clone:
    """What a person gets who clones the study: no file that git does not hold."""
    clone = Clone(path)
    study.git("clone", "--quiet", str(study.path), str(path))
    clone.git("config", "user.name", "A. Tester")
    clone.git("config", "user.email", "tester@example.com")
    return clone


def models(clone: Clone) -> set[str]:
    return {path.name for path in (clone.path / "study/models").iterdir()} - {".gitignore"}


def test_a_clone_without_a_remote_makes_one_model_and_leaves_the_rest_as_it_was(
    small_study: Clone, tmp_path: Path
) -> None:
    clone = clone_of(small_study, tmp_path / "clone")
    # Seconds are others in every run, and a network is other bytes on another processor.
    seconds, lock = clone.path / "study/results/42/clusters_20.json", clone.path / "study/dvc.lock"
    seconds.write_text(re.sub(r'"seconds": .*', '"seconds": 99.9', seconds.read_text()))
    recorded = yaml.safe_load(lock.read_text())
    for stage in recorded["stages"].values():
        for file in [*stage.get("deps", []), *stage.get("outs", [])]:
            if file["path"].endswith((".keras", "_seconds.json")):
                file["md5"] = "0" * 32
    lock.write_text(yaml.safe_dump(recorded, sort_keys=False))
    clone.git("commit", "--quiet", "--all", "--message", "As run elsewhere")

    said = clone.sh("make model NAME=nn_full_propagated_2000".replace("nn_full_propagated_2000", "c"))
    assert executed(said)[:2] == ["download", "kmeans@42-20"]
    assert set(executed(said)[2:]) <= {"name-clustering@c.joblib"}  # where these bytes are another machine's
    assert said.endswith("study/models/c.joblib: made, the bytes that study/dvc.lock names\n")
    assert models(clone) == {"c.joblib"}
    load = 'import joblib, numpy as np; X = np.load("data/train_images.npy").reshape(1000, -1) / 255'
    show = 'print(joblib.load("study/models/c.joblib").transform(X).shape)'
    assert clone.call("python", "-c", f"{load}; {show}").stdout == "(1000, 20)\n"

    said = clone.sh("make model NAME=b.keras")
    assert set(executed(said)) >= {"train-nn@42-clusters_20_percentile_50", "name-model@b.keras"}
    assert not any(stage.startswith(("train-logreg", "grade", "name-clustering")) for stage in executed(said))
    assert said.endswith("study/models/b.keras: made, other bytes than those that study/dvc.lock names\n")
    assert models(clone) == {"b.keras", "c.joblib"}
    show = 'import keras; keras.models.load_model("study/models/b.keras").summary()'
    assert "Total params" in clone.call("python", "-c", show).stdout

    assert clone.git("status", "--porcelain") == ""
    assert [path for path in (clone.path / "study/runs").rglob("*") if path.is_file()] == []


def test_a_model_comes_from_the_remote_alone_and_is_made_where_that_has_another(
    small_study: Clone, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    author = small_study.copy_to(tmp_path / "author")
    Clone(author.path / "study").dvc("remote", "add", "--default", "storage", str(remote))
    Clone(author.path / "study").dvc("push", "models/b.keras", "models/c.joblib")
    author.git("commit", "--quiet", "--all", "--message", "Set a remote")

    clone = clone_of(author, tmp_path / "clone")
    for _ in range(2):
        assert clone.sh("make model NAME=b").endswith("study/models/b.keras: there, as study/dvc.lock has it\n")
        assert models(clone) == {"b.keras"}
    pulled = (clone.path / "study/models/b.keras").read_bytes()
    assert pulled == (author.path / "study/models/b.keras").read_bytes()
    assert not (clone.path / "data/train_images.npy").exists()
    assert not (clone.path / "study/runs").exists()

    good = (author.path / "study/models/c.joblib").read_bytes()
    stored = next(path for path in remote.rglob("*") if path.is_file() and path.read_bytes() == good)
    stored.chmod(0o644)
    stored.write_bytes(b"swapped")
    said = clone.sh("make model NAME=c")
    assert "study/models/c.joblib: remote storage at " in said
    assert "kmeans@42-20" in executed(said)
    assert (clone.path / "study/models/c.joblib").read_bytes() == good
    assert clone.git("status", "--porcelain") == ""
