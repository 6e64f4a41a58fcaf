"""Ask git about this project: what is committed, and what a commit holds."""

import subprocess
from pathlib import Path

from few_labels.errors import InputError


def read_at(start: str, file: Path) -> bytes:
    """Give what a file holds at a commit, nothing where the commit does not have it."""
    return git("show", f"{start}:{file}") if git("ls-tree", start, "--", str(file)) else b""


def find_commit(base: str) -> str:
    """Give the hash of the commit that a person names."""
    # What starts with a dash is a name too, and no option.
    name = ["--end-of-options", f"{base}^{{commit}}"]
    return git("rev-parse", "--verify", *name, failing=f"no branch or commit {base!r} here").decode().strip()


def git(*arguments: str, failing: str = "") -> bytes:
    """Run git and give its output."""
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split()) or "no common history, fetch all of it"
        raise InputError(failing or visible(f"git {' '.join(arguments)}: {said}"))
    return done.stdout


def list_changes(project: Path) -> list[str]:
    """List the files in git that are not as committed."""
    status = git("-C", str(project), "status", "--porcelain", "--untracked-files=no").decode()
    return [line[3:] for line in status.splitlines()]


def visible(text: str) -> str:
    """Write what has no picture of its own, such as line ends and changes of direction, as Python would."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
