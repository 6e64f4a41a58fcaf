"""The study holds every published row, and a result is made by the code as it is, or made again."""

import json
from dataclasses import replace
from pathlib import Path

import joblib
import pytest
import yaml

from few_labels.errors import InputError
from study import image_sets
from study.carry_over import require_same
from study.model import find_file
from study.plan import IMAGE_SETS, Run, list_runs, read_pipeline, read_plan, take_fingerprint
from study.run import choose, is_current, place_images
from study.tabulate_image_sets import VIEWS
from tests.conftest import BIN, PROJECT, Clone, executed

PUBLISHED = yaml.safe_load((PROJECT / "study/rows.yaml").read_text())
RUNS = list_runs(read_plan())
MODELS = [*PUBLISHED["rows"], *PUBLISHED["clusterings"]]


def test_every_published_row_and_clustering_has_its_name() -> None:
    published = [file for file, row in PUBLISHED["rows"].items() if row["published"] is not None]
    assert len(published) == 28
    assert sum(file.endswith(".keras") for file in published) == 18
    assert len(PUBLISHED["clusterings"]) == 4


def test_every_row_and_clustering_has_a_run_at_the_published_seed() -> None:
    at_42 = {run.name for run in RUNS if run.seed == 42}
    assert {row["run"] for part in ("rows", "clusterings") for row in PUBLISHED[part].values()} <= at_42
    assert len({run.result for run in RUNS}) == len(RUNS)


@pytest.mark.parametrize("run", [run for run in RUNS if run.seed == 42], ids=lambda run: run.name)
def test_a_run_has_settings_that_the_pipeline_takes(run: Run) -> None:
    parameters = run.parameters
    assert parameters.seed == 42
    named = run.images or run.name.startswith(("recipe_", "without_", "peers_"))
    budget = run.name.rpartition("_")[2] if named else None
    assert budget is None or parameters.select_labels.n_labels == int(budget)


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[dict, Path]:
    """A pipeline of two stages, and the folder of what they depend on."""
    for name in ("a.py", "b.py", "labels/own.csv", "datasets/one.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("as it was")
    pipeline = {
        "stages": {
            "first": {"cmd": "a", "deps": ["a.py", "datasets", "labels"], "params": ["embed"], "outs": ["x.npy"]},
            "second": {"cmd": "b", "deps": ["b.py", "x.npy"], "params": ["train_nn", "select_labels.n_labels"]},
        }
    }
    return pipeline, tmp_path


RUN = Run("some", 1, {"percentile": "50"})


@pytest.mark.parametrize("path", ["a.py", "b.py", "datasets/one.yaml", "datasets/two.yaml"])
def test_other_code_makes_a_result_stale(tiny: tuple[dict, Path], path: str) -> None:
    pipeline, root = tiny
    before = take_fingerprint(pipeline, RUN, root)
    (root / path).write_text("changed")
    assert take_fingerprint(pipeline, RUN, root) != before


def test_another_command_or_parameter_makes_a_result_stale_and_what_nothing_reads_does_not(
    tiny: tuple[dict, Path],
) -> None:
    pipeline, root = tiny
    before = take_fingerprint(pipeline, RUN, root)
    for settings in ({"embed.n_words": "9"}, {"train_nn.mixup": "1"}, {"select_labels.n_labels": "7"}):
        assert take_fingerprint(pipeline, replace(RUN, settings=settings), root) != before
    for settings in ({"percentile": "7"}, {"select_labels.n_rounds": "7"}):
        assert take_fingerprint(pipeline, replace(RUN, settings=settings), root) == before
    (root / "labels/own.csv").write_text("one more answer")
    assert take_fingerprint(pipeline, RUN, root) == before
    pipeline["stages"]["second"]["cmd"] = "c"
    assert take_fingerprint(pipeline, RUN, root) != before


def test_a_run_that_ends_early_does_not_look_at_later_stages(tiny: tuple[dict, Path]) -> None:
    pipeline, root = tiny
    run = replace(RUN, last_stage="first", beside=("peers.py",), parameters_beside=("percentile",))
    (root / "peers.py").write_text("as it was")
    before = take_fingerprint(pipeline, run, root)
    (root / "b.py").write_text("changed")
    assert take_fingerprint(pipeline, run, root) == before
    assert take_fingerprint(pipeline, replace(run, settings={"percentile": "7"}), root) != before
    (root / "peers.py").write_text("changed")
    assert take_fingerprint(pipeline, run, root) != before


def test_other_images_make_a_result_stale(tiny: tuple[dict, Path]) -> None:
    pipeline, root = tiny
    (root / "study").mkdir()
    (root / IMAGE_SETS).write_text("as it was")
    runs = [replace(RUN, images=images) for images in ("", "digits", "mnist")]
    before = [take_fingerprint(pipeline, run, root) for run in runs]
    assert len(set(before)) == len(runs)
    (root / IMAGE_SETS).write_text("changed")
    assert [take_fingerprint(pipeline, run, root) == old for run, old in zip(runs, before, strict=True)] == [
        True,
        False,
        False,
    ]


def test_runs_are_chosen_by_name_and_seed_and_the_long_ones_by_name_only() -> None:
    assert {run.name for run in choose(RUNS, ["recipe_*"], [1])} == {
        run.name for run in RUNS if run.name.startswith("recipe_") and run.seed == 1
    }
    assert not any(run.name.startswith("published_network") for run in choose(RUNS, [], []))
    assert [run.seed for run in choose(RUNS, ["published_network_first_2000"], [])] == [42]
    with pytest.raises(InputError, match=r"allowed are those of study/runs\.yaml"):
        choose(RUNS, ["nowhere"], [])


def test_a_result_is_made_once_and_again_when_its_code_changes(clone: Clone) -> None:
    result = clone.path / "study/results/first_500/42.json"
    result.unlink()
    plan = clone.path / "study/runs.yaml"
    plan.write_text(
        plan.read_text().replace(
            "train_nn.max_steps: 1500", "train_nn.max_steps: 60, n_clusters: 20, download.limit: 1000"
        )
    )
    clone.git("commit", "--quiet", "--all", "--message", "Without a result, and with less work")
    ran = executed(clone.sh("make study ONLY=first_500 SEED=42"))
    assert ran[-3:] == ["train-logreg", "train-nn", "evaluate"]
    made = json.loads(result.read_text())
    assert made["metrics"]["labels"] == {"bought": 500, "trained_on": 500}
    assert made["revision"] == clone.git("rev-parse", "HEAD").strip()
    assert {"processor", "date", "settings"} <= set(made)
    assert made["clustering"]["n_clusters"] > 1
    assert executed(clone.sh("make study ONLY=first_500 SEED=42")) == []

    # One model of the run: all that it needs is in the cache.
    assert executed(clone.sh("make model NAME=log_reg_few_label_0")) == []
    model = joblib.load(clone.path / "study/models/log_reg_few_label_0.joblib")
    assert len(model.classes_) == 10

    code = clone.path / "stages/evaluate.py"
    code.write_text(code.read_text() + "# changed\n")
    # A page whose tables a run wrote is no reason to refuse the next one.
    page = clone.path / "README.md"
    page.write_text(page.read_text() + "\n")
    done = clone.call("python", "-m", "study.run", "--only", "first_500", "--seed", "42", check=False)
    assert done.returncode == 2
    assert "run: stages/evaluate.py not as committed, and results are of what is committed: commit first" in done.stdout
    clone.git("commit", "--quiet", "--all", "--message", "Change what grades")
    assert executed(clone.sh("python -m study.carry_over --since HEAD~1 --only first_500")) == ["evaluate"]
    carried = json.loads(result.read_text())
    confirmed = carried.pop("confirmed")
    assert confirmed == {"revision": clone.git("rev-parse", "HEAD").strip(), "runs": ["first_500/42"]}
    assert carried | {"fingerprint": made["fingerprint"]} == made
    assert executed(clone.sh("make study ONLY=first_500 SEED=42")) == []
    done = clone.call("python", "-m", "study.carry_over", "--since", "HEAD~1", "--only", "first_500", check=False)
    assert "no result of first_500 at seed 42 was current at HEAD~1 and is not now" in done.stdout

    code.write_text(code.read_text() + "# changed again\n")
    clone.git("commit", "--quiet", "--all", "--message", "Change it again")
    assert executed(clone.sh("make study ONLY=first_500 SEED=42")) == ["evaluate"]
    again = json.loads(result.read_text())
    assert again["fingerprint"] not in (made["fingerprint"], carried["fingerprint"])
    assert again["metrics"] == made["metrics"]

    plan.write_text(
        plan.read_text()
        .replace("runs:\n      first_500", "images: digits\n    runs:\n      first_500")
        .replace("select_labels.strategy: first", "select_labels.strategy: first, download.dataset: own")
    )
    clone.git("commit", "--quiet", "--all", "--message", "See other images")
    assert "download" in executed(clone.sh("make study ONLY=first_500 SEED=42"))
    seen = json.loads((clone.path / ".dvc/tmp/study/data/classes.json").read_text())
    assert seen["class_names"] == list("0123456789")
    digits = json.loads(result.read_text())
    assert digits["fingerprint"] != again["fingerprint"]
    assert digits["metrics"]["labels"] == {"bought": 500, "trained_on": 500}


def test_a_run_sees_its_own_images_and_the_next_one_does_not(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.run.CLONE", clone.path)
    own = clone.path / "data/own"
    found = {}
    for seed in (42, 42, 1):
        place_images(Run("some", seed, {}, images="digits"))
        found[seed] = {path.relative_to(own) for path in own.rglob("*.png")}
        assert len(found[seed]) == 1797
        assert sum(path.parts[0] == "test" for path in found[seed]) == 599
    assert found[1] != found[42]
    place_images(RUN)
    assert [path.name for path in own.iterdir()] == [".gitignore"]


def test_images_that_are_not_those_of_the_results_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "mnist"
    there.mkdir()
    (there / "train-images-idx3-ubyte").write_bytes(b"others")
    monkeypatch.setitem(image_sets.SHA256, there, image_sets.SHA256[image_sets.MNIST])
    monkeypatch.setattr(image_sets, "MNIST", there)
    with pytest.raises(InputError, match=r"mnist: its 1 files have SHA-256 [0-9a-f]{64}, allowed is [0-9a-f]{64}"):
        image_sets.place("mnist", 42, tmp_path)
    assert list(tmp_path.iterdir()) == [there]


def test_nothing_is_carried_over_where_a_number_is_another() -> None:
    found = {"fingerprint": "a", "metrics": {"nn": 0.9}, "clustering": {"n_clusters": 5}}
    require_same(RUN, found, found | {"fingerprint": "b"})
    with pytest.raises(InputError, match="metrics, clustering came out otherwise, so nothing is carried over"):
        require_same(RUN, found, found | {"metrics": {"nn": 0.8}, "clustering": {"n_clusters": 4}})


def test_a_page_says_whether_its_results_are_those_of_the_code() -> None:
    pipeline = read_pipeline()
    stale = [run for run in RUNS if not is_current(run.result, take_fingerprint(pipeline, run))]
    views = {run for run in stale if run.name.startswith(tuple(f"stamps_{view}_" for view in VIEWS))}
    others = {run for run in stale if run.images} - views
    recipe = {run for run in stale if run.name.startswith(("recipe_", "without_", "peers_"))}
    for page, old in {
        "study/README.md": set(stale) - recipe - others - views,
        "study/few_labels/README.md": recipe,
        "study/other_sets/README.md": others,
        "study/photos/README.md": views,
    }.items():
        assert ("made by older code" in " ".join((PROJECT / page).read_text().split())) == bool(old), page


@pytest.mark.parametrize("file", MODELS)
def test_a_model_is_found_with_its_suffix_and_without(file: str) -> None:
    assert find_file(file, MODELS) == find_file(file.rpartition(".")[0], MODELS) == file


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
    (tmp_path / ".dvc").mkdir()
    elsewhere.git("init", "--quiet")
    said = elsewhere.call(
        "make", f"BIN={BIN}", "--old-file=.venv/installed", "--no-print-directory", "model", f"NAME={name}", check=False
    )
    assert said.returncode == 2
    first, *listed, end = said.stdout.splitlines()
    assert first == f"model: NAME is {name!r}, allowed are the models of study/rows.yaml:"
    assert listed == sorted(f"  {file.rpartition('.')[0]}" for file in MODELS)
    assert end.startswith("make")
    assert not (tmp_path / "pwned").exists()
