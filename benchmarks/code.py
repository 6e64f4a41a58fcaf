"""Which code a case times, as a hash: a table says by it whether it is of the code as it is."""

from benchmarks.common import PROJECT, params
from tools import code

# These start processes of the pipeline, whose modules they do not import.
WHOLE = {"imports": ["stages"], "pipeline": ["stages"], "page": ["stages", "app"]}


def hash_code(module: str) -> str:
    """Hash what decides how long the cases of a module take: its code, the project's that it runs, and the parameters.

    Parameters
    ----------
    module : str
        Of this package, such as ``kmeans``.

    Returns
    -------
    str
        MD5.
    """
    started = {file for package in WHOLE.get(module, []) for file in (PROJECT / package).glob("*.py")}
    return code.hash_code({PROJECT / "benchmarks" / f"{module}.py"} | started, params(), PROJECT)


def name_module(case: str) -> str:
    """Give the module of a case, whose name it starts with."""
    words = case.replace("-", "_").split("_")
    candidates = ("_".join(words[:n]) for n in range(len(words), 0, -1))
    return next(name for name in candidates if (PROJECT / "benchmarks" / f"{name}.py").is_file())


def name_stale(hashes: dict[str, str]) -> list[str]:
    """Name the cases that were timed on other code than there is now.

    Parameters
    ----------
    hashes : dict
        By case, what `hash_code` gave when it was timed.

    Returns
    -------
    list of str
    """
    modules = {case: name_module(case) for case in hashes}
    current = {module: hash_code(module) for module in set(modules.values())}
    return [case for case, known in hashes.items() if known != current[modules[case]]]
