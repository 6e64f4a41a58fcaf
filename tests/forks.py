"""Run commands of a clone in forked processes, which spares each of them its imports.

A stage of a small run works for tenths of a second after it has imported for one to three, and dvc for half of one. A
server that has imported the packages forks a process for each command, which runs what ``python -m`` or ``dvc`` runs:
the clone's own modules, in the caller's folder, environment and files. What a test interrupts or kills is no such
process: `tests.conftest.Clone.start` starts a real one.
"""

import stages  # noqa: F401  # isort: skip: it pins the kernels, before NumPy is imported

import atexit
import json
import os
import pkgutil
import runpy
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType
from typing import Any, NoReturn

PROJECT = Path(__file__).parent.parent
OWN = {"app", "benchmarks", "few_labels", "stages", "study", "tests", "tools"}
# What dvc and the stages load only where they need it, which is in most commands here.
LOADED_LATE = [
    *("dvc.cli.parser", "dvc.repo.reproduce", "dvc.repo.experiments.show", "dvc_render.vega", "dulwich.porcelain"),
    *("celery.result", "networkx", "pygit2", "scipy.optimize", "scmrepo.git.backend.dulwich"),
]
# It starts in hundredths of a second: no packages, no variables. What is no module's command, or has more packages
# on its path, is the real one.
CALLER = """#!{python} -IS
import json, os, socket, sys
program, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
packages = os.environ.get("PYTHONPATH", "")
if program == "python" and (arguments[:1] != ["-m"] or packages not in ("", os.getcwd())):
    os.execv({python!r}, [{python!r}, *arguments])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"\\n"], [0, 1, 2])
    command = {{"arguments": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}}
    server.sendall(json.dumps(command).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.makefile().read()))
"""


@cache
def forked_commands() -> Path:
    """Give a folder of commands, those of this environment but that ``python -m`` and ``dvc`` are forked.

    The server starts with the first call and ends with this process.
    """
    commands, folder = Path(sys.executable).parent, Path(mkdtemp(prefix="forks-"))
    atexit.register(shutil.rmtree, folder)
    forked, address = folder / "bin", folder / "server"
    forked.mkdir()
    for command in commands.iterdir():
        (forked / command.name).symlink_to(command)
    for name in ("python", "dvc"):
        (forked / name).unlink()
        (forked / name).write_text(CALLER.format(python=str(commands / "python"), address=str(address)))
        (forked / name).chmod(0o755)
    # Its standard input ends when this process does.
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forks", str(address)], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    return forked


def serve(address: str) -> None:
    """Fork a process for each command that comes, until standard input ends."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    setup: Any = ModuleType("few_labels.tensorflow_setup")
    setup.keras, setup.tf = import_module("keras"), import_module("tensorflow")
    # The real one starts TensorFlow's threads, which a forked process would wait for and not have.
    sys.modules[setup.__name__] = setup
    for stage in pkgutil.iter_modules([str(PROJECT / "stages")]):
        import_module(f"stages.{stage.name}")
    for module in LOADED_LATE:
        import_module(module)
    for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
        del sys.modules[name]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            caller, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                answer(caller)
            caller.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def answer(caller: socket.socket) -> NoReturn:
    """Run a command, and tell its caller how it ended."""
    _, files, _, _ = socket.recv_fds(caller, 1, 3)
    command = json.loads(caller.makefile().read())
    if (process := os.fork()) == 0:
        caller.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        end(partial(become, **command))
    for file in files:
        os.close(file)
    _, status = os.waitpid(process, 0)
    caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Do in this process what the command does in one of its own."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    program, *rest = arguments
    module, options = ("dvc", rest) if Path(program).name == "dvc" else (rest[1], rest[2:])
    if module.startswith(("study.", "tools.")):
        # They start dvc by the name of the interpreter that they run in.
        sys.executable = program
    sys.path[0] = folder
    sys.orig_argv[1:] = ["-m", module, *options]
    sys.argv[:] = ["-m", *options]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end(command: Callable[[], None]) -> NoReturn:
    """Run a command and end this process as Python does, but for what libraries do at last.

    They wait for threads, and a forked process has none of those that it was forked from.
    """
    status = 1
    try:
        command()
        status = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        else:
            status = error.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(*sys.argv[1:])
