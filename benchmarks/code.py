"""Which code a case times, as a hash: a table says by it whether it is of the code as it is."""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.common import PROJECT, params

PACKAGES = ("few_labels", "stages", "app", "benchmarks")
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
    files = {PROJECT / "benchmarks" / f"{module}.py"}
    files |= {file for package in WHOLE.get(module, []) for file in (PROJECT / package).glob("*.py")}
    while found := {used for file in files for used in list_imported(file)} - files:
        files |= found
    sources = {str(file.relative_to(PROJECT)): file.read_text(encoding="utf-8") for file in sorted(files)}
    inputs = json.dumps([sources, params()], sort_keys=True)
    return hashlib.md5(inputs.encode(), usedforsecurity=False).hexdigest()


@cache
def list_imported(file: Path) -> list[Path]:
    """List the files of this project that a file of Python imports, at its top or on the way."""
    return [
        path
        for name in name_imported(ast.parse(file.read_text(encoding="utf-8")))
        if name.split(".")[0] in PACKAGES
        for path in (PROJECT / f"{name.replace('.', '/')}.py", PROJECT / name.replace(".", "/") / "__init__.py")
        if path.is_file()
    ]


def name_imported(tree: ast.AST) -> Iterator[str]:
    """Name each module that is imported, and for ``from a import b`` both ``a`` and what may be a module, ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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
