"""A bad parameter ends the run with one line that says what was seen and what is allowed, and nothing good is lost."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clone

# Parameter, bad value, what the line must say.
BAD: list[tuple[str, Any, list[str]]] = [
    ("percentile", 150, ["propagate:", "percentile", "'150'", "less than or equal to 100"]),
    ("percentile", -1, ["propagate:", "percentile", "'-1'", "greater than or equal to 0"]),
    ("n_clusters", 0, ["kmeans:", "n_clusters", "'0'", "greater than or equal to 1"]),
    ("n_clusters", 1001, ["kmeans:", "n_clusters", "1001", "1 to 1000"]),
    ("n_clusters", "many", ["kmeans:", "n_clusters", "'many'", "valid integer"]),
    ("select_labels.strategy", "best", ["select-labels:", "strategy", "'best'", "representative", "random", "first"]),
    ("select_labels.n_labels", 2.5, ["select-labels:", "n_labels", "'2.5'", "valid integer"]),
    ("kmeans.n_iter_pixles", 3, ["kmeans:", "n_iter_pixles", "n_iter_pixels"]),
    ("featurize.representation", "pixel", ["featurize:", "representation", "'pixel'", "embedding", "distances"]),
    ("embed.method", "vae", ["embed:", "method", "'vae'", "pixels", "patches"]),
    ("embed.patch_size", 29, ["embed:", "patch_size", "'29'", "less than or equal to 28"]),
    ("propagate.method", "magic", ["propagate:", "method", "'magic'", "cluster", "graph", "linear"]),
    ("propagate.alpha", 1, ["propagate:", "alpha", "'1'", "less than or equal to 0.999"]),
    ("train_nn.mixup", -1, ["train-nn:", "mixup", "'-1'", "greater than or equal to 0"]),
    ("train_logreg.C", 0, ["train-logreg:", "C", "'0'", "greater than or equal to 0.000001"]),
    ("train_nn.architecture", "huge", ["train-nn:", "architecture", "'huge'", "compact", "published"]),
    ("download.limit", "half", ["download:", "limit", "half", "60 to 60000"]),
    ("download.source", "/no/such/folder", ["download:", "source", "/no/such/folder", "auto"]),
]


def cached_files(clone: Clone) -> set[Path]:
    return {file.relative_to(clone.path) for file in (clone.path / ".dvc/cache/files").rglob("*") if file.is_file()}


@pytest.mark.parametrize(("name", "value", "said"), BAD, ids=[f"{name}={value}" for name, value, _ in BAD])
def test_a_bad_value_is_named_in_one_line(clone: Clone, name: str, value: Any, said: list[str]) -> None:
    good_params, good_files = (clone.path / "params.yaml").read_text(), cached_files(clone)
    clone.set_params({name: value})

    done = clone.call("dvc", "repro", check=False)

    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    naming = [line for line in done.stdout.splitlines() if line.startswith(said[0])]
    assert len(naming) == 1
    assert all(word in naming[0] for word in said)

    assert good_files <= cached_files(clone)
    (clone.path / "params.yaml").write_text(good_params)
    assert clone.repro() == []
    assert clone.git("status", "--porcelain") == ""


def test_a_misspelt_name_is_missed_where_it_is_used(clone: Clone) -> None:
    params = clone.path / "params.yaml"
    params.write_text(params.read_text().replace("percentile:", "percentil:"))
    done = clone.call("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "ERROR: failed to parse 'stages.propagate.cmd' in 'dvc.yaml': Could not find 'percentile'" in done.stdout


def test_a_misspelt_parameter_on_the_command_line_is_refused(clone: Clone) -> None:
    done = clone.call("dvc", "exp", "run", "-S", "percentil=50", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert "Could not override 'percentil'" in done.stdout
