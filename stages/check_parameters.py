"""Refuse what params.yaml may not hold, also where nothing else would run: a misspelt name is no parameter's value."""

from few_labels.parameters import AllParameters
from stages import run


def main(seed: int) -> None:
    """Do nothing: what `run` checks before is all there is to do."""
    print(f"params.yaml holds what it may: {len(AllParameters.model_fields)} parameters and groups of them")


if __name__ == "__main__":
    run(main)
