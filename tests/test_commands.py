"""Commands that the pages show and that no other test has a reason to run."""

import json

import pandas as pd
import pytest
import yaml

from few_labels.ledger import read_ledger
from tests.conftest import PROJECT, Clone
from tests.test_graph import outputs

DVC_YAML = yaml.safe_load((PROJECT / "dvc.yaml").read_text())


@pytest.mark.parametrize("name", DVC_YAML["artifacts"])
def test_a_model_by_name_is_an_output_of_the_graph_and_on_the_card(name: str) -> None:
    artifact = DVC_YAML["artifacts"][name]
    assert set(artifact) == {"path", "type", "desc", "labels"}
    assert artifact["path"] in set().union(*map(outputs, DVC_YAML["stages"].values()))
    card = (PROJECT / "docs" / "model-card.md").read_text()
    assert f"| `{name}` | `{artifact['path']}` |" in card


def test_every_model_has_a_name() -> None:
    models = {out for stage in DVC_YAML["stages"].values() for out in outputs(stage) if out.startswith("models/")}
    named = {artifact["path"] for artifact in DVC_YAML["artifacts"].values()}
    assert named == {model for model in models if not model.endswith(".json")}


def test_a_tag_makes_a_version_of_a_model(clone: Clone) -> None:
    trained = (clone.path / "models/nn.keras").read_bytes()
    clone.sh('git tag --annotate network@v1.0.0 --message "The network\'s first version"')
    (clone.path / "models/nn.keras").unlink()
    (clone.path / "elsewhere").mkdir()
    clone.sh("dvc artifacts get . network")
    assert (clone.path / "nn.keras").read_bytes() == trained


def test_answers_leave_and_come_back_by_make(clone: Clone) -> None:
    ledger = clone.path / "labels/fashion-mnist.csv"
    answers, _ = read_ledger(ledger)
    clone.sh("make export-labels")
    assert len(json.loads((clone.path / "exchange/tasks.json").read_text())) == len(answers.image)
    clone.sh("make export-labels FILE=answers.csv")
    assert pd.read_csv(clone.path / "answers.csv")["image"].tolist() == answers.image

    before = ledger.read_text()
    clone.sh("make import-labels FILE=answers.csv")
    assert ledger.read_text() == before
    task = {"image": "/data", "name": answers.image[0], "id": 1, "annotation_id": 1, "annotator": "Eve", "label": "Bag"}
    (clone.path / "export.json").write_text(json.dumps([task]))
    clone.sh("make import-labels FILE=export.json")
    assert ledger.read_text().startswith(before)
    assert read_ledger(ledger)[0].label[0] == "Bag"


def test_links_take_the_place_of_copies_where_disk_is_short(clone: Clone) -> None:
    clone.sh("dvc config --local cache.type hardlink")
    clone.sh("dvc checkout --relink")
    assert (clone.path / "data/train_images.npy").stat().st_nlink > 1
    assert clone.git("status", "--porcelain") == ""


def test_without_a_name_the_models_of_the_study_are_listed() -> None:
    assert "nn_full_propagated_2000\n" in Clone(PROJECT).sh("make model", check=False)
