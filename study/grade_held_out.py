"""Grade both models on bought labels that were held out of their training."""

import json
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from few_labels.artifacts import load_labelled, load_scores, replacing
from stages import run
from stages.evaluate import grade_predictions


def main(
    logreg_scores: Annotated[Path, Option(help="logistic regression's scores of the training images")],
    nn_scores: Annotated[Path, Option(help="the network's scores of the training images")],
    held_out: Annotated[Path, Option()],
    result: Annotated[Path, Option()],
) -> None:
    answers = {
        "logreg": load_scores(logreg_scores).argmax(axis=1),
        "nn": load_scores(nn_scores).argmax(axis=1),
    }
    known = load_labelled(held_out, len(answers["nn"]))
    grades: dict[str, Any] = {"labels": {"held_out": len(known.index)}}
    for model, answer in answers.items():
        grades[model] = grade_predictions(known.label, answer[known.index])
    with replacing(result) as temporary:
        temporary.write_text(json.dumps(grades, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
