"""Write down the inertia of a clustering, and what it took."""

import json
from pathlib import Path
from typing import Annotated

import joblib
from typer import Option

from few_labels.artifacts import replacing
from stages import run


def main(
    model: Annotated[Path, Option(help="the fitted k-means")],
    seconds: Annotated[Path, Option()],
    result: Annotated[Path, Option()],
) -> None:
    kmeans = joblib.load(model)
    grades = {"n_clusters": kmeans.n_clusters, "inertia": round(kmeans.inertia_, 1)}
    with replacing(result) as temporary:
        temporary.write_text(json.dumps(grades | json.loads(seconds.read_text()), indent=2) + "\n")


if __name__ == "__main__":
    run(main)
