"""What params.yaml may hold: each parameter's name, kind and range, in one table.

The values are checked here and used elsewhere, so no result depends on this module.
"""

from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from few_labels.errors import InputError, quote, shorten

MOST_PROBLEMS = 8

# As YAML writes them: text is no number, and neither is true.
_Int = Annotated[int, Field(strict=True)]
_Float = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Count = Annotated[_Int, Field(ge=1, le=2**31 - 1)]


Architecture = Literal["compact", "large", "published", "dense"]
Schedule = Literal["cosine", "constant"]
Kernel = Literal["none", "rational-quadratic"]
SpreadingMethod = Literal["cluster", "graph", "logreg", "graph-and-logreg"]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Download(_Group):
    """Parameters of the stage ``download``."""

    dataset: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    source: str
    limit: _Count | None
    image_size: Annotated[_Int, Field(ge=4, le=1024)]
    channels: Literal["auto", "grey", "rgb"]


class Embed(_Group):
    """Parameters of the stage ``embed``."""

    method: Literal["pixels", "patches", "encoder"]
    encoder: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None
    n_words: Annotated[_Count, Field(ge=2)]
    patch_size: Annotated[_Count, Field(ge=2)]
    n_regions: Annotated[_Int, Field(ge=1, le=8)]
    gradient_weight: Annotated[_Float, Field(ge=0, le=100)]
    n_components: _Count


class KMeans(_Group):
    """Parameters of the stage ``kmeans``."""

    n_components: _Count
    n_iter_components: _Count
    n_iter_pixels: _Count


class Featurize(_Group):
    """Parameters of the stage ``featurize``."""

    representation: Literal["embedding", "distances"]


class SelectLabels(_Group):
    """Parameters of the stage ``select-labels``."""

    oracle: Literal["dataset", "person"]
    strategy: Literal["representative", "margin", "random", "first", "all"]
    # One label names one class, and two are the fewest that can be told apart.
    n_labels: Annotated[_Count, Field(ge=2)]
    n_rounds: _Count
    n_queries: _Count
    n_audit: Literal["auto"] | Annotated[_Int, Field(ge=0, le=2**31 - 1)]


class Propagate(_Group):
    """Parameters of the stage ``propagate``."""

    method: SpreadingMethod
    n_neighbours: _Count
    alpha: Annotated[_Float, Field(ge=0, le=0.999)]
    n_steps: _Count
    weighting: Literal["score", "equal"]
    class_prior: Literal["none", "uniform"] | list[Annotated[_Float, Field(gt=0, le=1)]]


class Refine(_Group):
    """Parameters of the stage ``refine``."""

    max_steps: Annotated[_Int, Field(ge=0, le=2**31 - 1)]
    n_components: _Count


class TrainLogreg(_Group):
    """Parameters of logistic regression, wherever it is trained."""

    kernel: Kernel
    C: Annotated[_Float, Field(ge=1e-6)]
    max_iter: _Count


class TrainNN(_Group):
    """Parameters of the stage ``train-nn``.

    Attributes
    ----------
    architecture : str
    batch_size : int
        Images a step; a training set too small for 16 such steps an epoch takes smaller ones.
    learning_rate : float
        Adam's peak rate at ``batch_size``; smaller batches scale it by the square root of their ratio (Malladi et al.
        2022, "On the SDEs and scaling rules for adaptive gradient algorithms").
    schedule : str
        ``cosine`` warms up over a tenth of the steps and falls to zero; ``constant`` keeps the rate.
    max_epochs, max_steps : int
        Training ends at the first of the two, rounded to whole epochs.
    patience : int
        Epochs without a lower validation loss before training stops early.
    validation_fraction : float
        Share of the training set held out to choose the best epoch.
    mixup : float
        Mix each image and its label with another's, anew at each epoch, in proportions drawn from a beta distribution
        with both parameters equal to this (Zhang et al. 2018, "mixup: Beyond empirical risk minimization"); 0 mixes
        none.
    """

    architecture: Architecture
    batch_size: _Count
    learning_rate: Annotated[_Float, Field(ge=1e-6, le=1)]
    schedule: Schedule
    max_epochs: _Count
    max_steps: _Count
    patience: _Count
    validation_fraction: Annotated[_Float, Field(ge=0.01, le=0.5)]
    mixup: Annotated[_Float, Field(ge=0, le=10)]


class Evaluate(_Group):
    """Parameters of the stage ``evaluate``."""

    answer: Literal["nn", "logreg", "mean", "auto"]


class AllParameters(_Group):
    """All of params.yaml."""

    seed: Annotated[_Int, Field(ge=0, le=2**31 - 1)]
    n_clusters: Annotated[_Count, Field(ge=2)]
    percentile: Annotated[_Float, Field(ge=0, le=100)]
    download: Download
    embed: Embed
    kmeans: KMeans
    featurize: Featurize
    select_labels: SelectLabels
    refine: Refine
    propagate: Propagate
    train_logreg: TrainLogreg
    train_nn: TrainNN
    evaluate: Evaluate


def validate_parameters(values: Any, where: str) -> AllParameters:
    """Give parameters a type, or say what is wrong with them.

    Parameters
    ----------
    values : object
        What was read from params.yaml.
    where : str
        The file or files that they were read from, for the message.

    Returns
    -------
    AllParameters

    Raises
    ------
    InputError
        In one line, for all that has no place in params.yaml, is missing from it, or is out of its range.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: holds {quote(values)}, allowed are parameters, each as name: value")
    try:
        return AllParameters.model_validate(values)
    except ValidationError as error:
        problems: dict[str, list[str]] = {}
        for problem in error.errors(include_url=False):
            # Where more than one kind of value is allowed, the place goes on with the kinds, one problem each.
            place = [str(step) for step in problem["loc"]]
            name = ".".join(place[: 2 if place[0] in _GROUPS else 1])
            allowed = problem["msg"].removeprefix("Input should be ").replace("String should match", "text of the")
            if problem["type"] == "missing":
                problems[name] = ["is missing"]
            elif problem["type"] == "extra_forbidden":
                problems[name] = [f"is no parameter, {suggest(name)}"]
            elif name in problems:
                problems[name].append(allowed)
            else:
                problems[name] = [f"is {quote(problem['input'])}, allowed is {allowed}"]
        lines = [f"{_show_name(name)} {' or '.join(said)}" for name, said in problems.items()]
        more = [f"and {len(lines) - MOST_PROBLEMS} more"] if len(lines) > MOST_PROBLEMS else []
        raise InputError(f"{where}: {'; '.join(lines[:MOST_PROBLEMS] + more)}") from error


def _show_name(name: str) -> str:
    return shorten(name) if name.isprintable() else quote(name)


def parameter_names() -> list[str]:
    """Name all parameters as they are set: groups joined by dots."""
    return [
        f"{name}.{key}" if name in _GROUPS else name
        for name in AllParameters.model_fields
        for key in (_GROUPS[name].model_fields if name in _GROUPS else [""])
    ]


_GROUPS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in AllParameters.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}


def suggest(name: str) -> str:
    """Say which parameters a name that is none of them is like."""
    known = parameter_names()
    alike = get_close_matches(name, known) or [each for each in known if each.endswith(f".{name}")]
    return f"allowed are those of the project's params.yaml, such as {', '.join(alike or known[:3])}"
