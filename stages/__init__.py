"""The workflow, one module a stage; dvc.yaml joins them by the files they read and write.

This is the one entry point that every stage goes through: what a process needs once is set here and nowhere else.
"""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from pydantic import ValidationError

from few_labels.errors import InputError

# What an import makes stays: looking for garbage in it again and again adds half to the time that TensorFlow takes.
gc.set_threshold(100_000, 50, 100)


def run(stage: Callable[..., None]) -> None:
    """Run a stage's function as a command line built from its type annotations.

    Option names may be spelt with ``_`` as in params.yaml, because DVC expands a group of parameters such as
    ``${kmeans}`` into ``--n_iter 5``; a misspelt key is therefore an unknown option, and typer says so.

    Parameters
    ----------
    stage : callable
        The function that loads, calls and saves; its annotations declare the options and their ranges.

    Raises
    ------
    SystemExit
        With status 2 and one line on standard error when an option or an input file is not usable, with 130 when a
        person interrupts it.
    """
    # What was imported is not searched for garbage again, nor at the end, where it would cost a second.
    gc.freeze()
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(context_settings={"token_normalize_func": lambda token: token.replace("-", "_")})(stage)
    name = Path(sys.argv[0]).stem.replace("_", "-")
    try:
        app(standalone_mode=False)
    except typer.BadParameter as error:
        # Typer says what is allowed, by pydantic; the value that was seen and the name in params.yaml are added here.
        if error.param is not None:
            error.param_hint = error.param.name
        message, invalid = error.format_message(), error.__cause__
        seen = repr(invalid.errors()[0]["input"]) if isinstance(invalid, ValidationError) else ""
        _stop(name, message if seen in message else f"{message}, not {seen}")
    except typer.TyperException as error:
        _stop(name, error.format_message())
    except (InputError, OSError) as error:
        _stop(name, str(error))
    except (typer.Abort, KeyboardInterrupt):
        _stop(name, "interrupted; what it had not finished is not kept", status=130)


def _stop(name: str, message: str, status: int = 2) -> None:
    print(f"{name}: {message}", file=sys.stderr)
    raise SystemExit(status)
