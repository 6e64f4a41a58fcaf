"""The workflow, one module a stage; dvc.yaml joins them by the files they read and write.

This is the one entry point that every stage goes through: what a process needs once is set here and nowhere else.
"""

import gc
import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, signature
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NoReturn, get_origin

from few_labels.errors import InputError, explain, quote, require_memory, shorten
from few_labels.kernels import DECISIVE, pin_kernels

PROJECT = Path(__file__).parent.parent
# With less memory, the libraries that a stage imports crash or hang in place of raising.
LEAST_GIGABYTES = 2
LONGEST_LINE = 4000


def _name_stage() -> str:
    """Give a stage's name in dvc.yaml; while python -m still imports this package, only the whole command has it."""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1] if sys.argv[0] == "-m" else Path(sys.argv[0]).stem
    return module.rpartition(".")[2].replace("_", "-")


def _say_in_one_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Say what ends a stage before it runs, while it is being imported, as `run` says it after."""
    if (line := explain(error)) is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(f"{_name_stage()}: {line}", file=sys.stderr)


def _check_environment() -> None:
    """Stop where another Python than the project's would run, and results would differ without a word."""
    pinned: dict[str, set[str]] = {}
    for line in (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([\w.-]+)==([\w.]+)", line):
            pinned.setdefault(found[1], set()).add(found[2])
    for name in DECISIVE:
        try:
            seen = version(name)
        except PackageNotFoundError:
            seen = ""
        if seen not in pinned[name]:
            raise InputError(
                f"{sys.executable} has {name} {seen or 'not at all'}, requirements.txt says "
                f"{' or '.join(sorted(pinned[name]))}: make .venv/installed makes the environment, or activate yours"
            )


sys.excepthook = _say_in_one_line
require_memory(LEAST_GIGABYTES, "a stage")
pin_kernels()
_check_environment()

import typer  # noqa: E402
from pydantic import ValidationError  # noqa: E402
from ruamel.yaml import YAML, YAMLError  # noqa: E402
from tqdm import tqdm  # noqa: E402

from few_labels.parameters import AllParameters, validate_parameters  # noqa: E402

# What an import makes stays: looking for garbage in it again and again adds half to the time that TensorFlow takes.
gc.set_threshold(100_000, 50, 100)


def run(stage: Callable[..., None]) -> None:
    """Run a stage's function as a command line: paths are its options, and params.yaml gives the rest.

    No parameter stands on a command line, where a shell would read it. An argument of the function without an `Option`
    is a parameter, or a group of them, and takes what params.yaml says; one of a group is named as in scikit-learn,
    with two underscores. All of the file is checked first.

    Parameters
    ----------
    stage : callable
        The function that loads, calls and saves.

    Raises
    ------
    SystemExit
        With status 2 and one line on standard error when an option, a parameter or an input file is not usable, with
        130 when a person interrupts it.
    """
    # What was imported is not searched for garbage again, nor at the end, where it would cost a second.
    gc.freeze()
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(_with_parameters(stage))
    name = _name_stage()
    try:
        if os.environ.get("DASK_SCHEDULER_ADDRESS"):
            # What is wrong with a cluster is said before work starts.
            from few_labels.cluster import connect

            connect()
        app(standalone_mode=False)
    except typer.BadParameter as error:
        # Typer says what is allowed, by pydantic; the value that was seen is added here.
        if error.param is not None:
            error.param_hint = error.param.name
        message, invalid = error.format_message(), error.__cause__
        seen = quote(invalid.errors()[0]["input"]) if isinstance(invalid, ValidationError) else ""
        _stop(name, message if seen in message else f"{message}, not {seen}")
    except typer.TyperException as error:
        _stop(name, error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        _stop(name, "interrupted; what it had not finished is not kept", status=130)
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        _stop(name, line)


def _stop(name: str, message: str, status: int = 2) -> NoReturn:
    # A bar may be on the screen: the message is a line of its own.
    tqdm.write(f"{name}: {shorten(message, LONGEST_LINE)}", file=sys.stderr)
    raise SystemExit(status)


def _with_parameters(stage: Callable[..., None]) -> Callable[..., None]:
    """Make a function of options alone: those of a stage that are paths, and where its parameters come from."""
    arguments = signature(stage).parameters
    wanted = [name for name, argument in arguments.items() if get_origin(argument.annotation) is not Annotated]
    if not wanted:
        return stage

    def command(params: list[Path], setting: list[str], **options: Any) -> None:
        parameters = read_parameters(params or [Path("params.yaml")], setting or [])
        stage(**options, **{name: _select(parameters, name) for name in wanted})

    own = {
        "params": Annotated[list[Path] | None, typer.Option(help="params.yaml, or more files: a later one wins")],
        "setting": Annotated[list[str] | None, typer.Option("--set", help="another value: kmeans.n_components=9")],
    }
    command.__signature__ = signature(stage).replace(  # type: ignore[attr-defined]
        parameters=[argument for name, argument in arguments.items() if name not in wanted]
        + [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in own.items()]
    )
    command.__annotations__ = {name: kind for name, kind in stage.__annotations__.items() if name not in wanted} | own
    return command


def _select(parameters: AllParameters, name: str) -> Any:
    value: Any = parameters
    for step in name.split("__"):
        value = getattr(value, step)
    return value


def read_parameters(files: list[Path], settings: list[str]) -> AllParameters:
    """Read params.yaml, what other files change in it, and what is set by hand.

    Parameters
    ----------
    files : list of Path
        What a later one says takes the place of what an earlier one says.
    settings : list of str
        ``name=value``, groups joined by dots.

    Returns
    -------
    AllParameters

    Raises
    ------
    InputError
        If a file cannot be read or is no YAML, or the whole is not what params.yaml may hold.
    """
    # As DVC reads it, for which 1e-3 is a number and a name that stands twice a mistake.
    yaml = YAML(typ="safe", pure=True)
    merged: Any = {}

    def read(text: str, where: str) -> Any:
        try:
            return yaml.load(text)
        except YAMLError as error:
            raise InputError(f"{where}: not YAML ({shorten(' '.join(str(error).split()), 300)})") from error

    for file in files:
        try:
            merged = _merge(merged, read(file.read_text(encoding="utf-8"), str(file)))
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 ({error})") from error
    for setting in settings:
        name, _, text = setting.partition("=")
        changed = read(text, f"--set {quote(setting)}")
        for step in reversed(name.split(".")):
            changed = {step: changed}
        merged = _merge(merged, changed)
    return validate_parameters(merged, ", ".join(map(str, files)))


def _merge(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {name: _merge(old.get(name), value) for name, value in new.items()}
