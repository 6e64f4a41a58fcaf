"""Serve the page on which a person labels, on one's own machine.

The terminal says where it is. To stop at any time, also by a crash, loses nothing: every answer is in the ledger before
the next image shows.
"""

import asyncio
import getpass
import secrets
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from fastapi import HTTPException, Response
from nicegui import app as server
from nicegui import background_tasks, ui
from nicegui.server import Server
from typer import Option

from app.dataset import load_settings
from app.desk import Desk, Paths
from app.guard import PARAMETER, Guard
from app.page import Page
from few_labels.errors import InputError
from few_labels.ledger import find_text_problem
from stages import run

USUAL_PORT = 8080


def main(
    data: Annotated[Path, Option(help="the folder of the stages' files")],
    own: Annotated[Path, Option(help="where one's own photos are")],
    ledgers: Annotated[Path, Option(help="a folder: where the answers are kept, a file a data set")],
    metrics: Annotated[Path, Option()],
    records: Annotated[Path, Option(help="a folder: what each training answered, for the learning curve, alike")],
    params: Annotated[Path, Option()] = Path("params.yaml"),
    annotator: Annotated[str, Option(help="who answers; by default, git's user.name")] = "",
    host: Annotated[str, Option(help="127.0.0.1, or another address to be reached at, by a token")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="0 takes one that is free")] = 0,
    token: Annotated[str, Option(help="what others have to know; made up where it is needed and not given")] = "",
    train: Annotated[bool, Option(help="train after each round too")] = True,
    show: Annotated[bool, Option(help="open the page in a browser")] = True,
) -> None:
    annotator = annotator or find_annotator()
    if problem := find_text_problem(annotator):
        raise InputError(f"annotator: {problem}")
    if host not in {"127.0.0.1", "localhost", "::1"} and not token:
        token = secrets.token_urlsafe(16)
    port = port or find_port(host)
    dataset = load_settings(params).dataset
    desk = Desk(
        Paths(data, own, ledgers / f"{dataset}.csv", metrics, params, records / f"{dataset}.jsonl"), train=train
    )
    if unused := desk.describe_unused():
        print(f"label: {unused}", flush=True)
    serve(desk, annotator)
    server.add_middleware(Guard, port=port, token=token)
    query = f"/?{PARAMETER}={token}" if token else "/"
    address = f"[{host}]" if ":" in host else host
    told = f"label: http://{address}:{port}{query} (Ctrl-C ends; every answer is kept already)"

    async def tell() -> None:
        # The address is said once it is answered, not while the server is about to listen.
        while not Server.instance.started:
            await asyncio.sleep(0.01)
        print(told, flush=True)

    server.on_startup(tell)
    ui.run(
        host=host,
        port=port,
        title=f"Label {desk.settings.dataset}",
        favicon="🏷",
        dark=None,
        reload=False,
        show=query if show else False,
        show_welcome_message=False,
        uvicorn_logging_level="error",
    )


def serve(desk: Desk, annotator: str) -> None:
    """Set up the page, the images and what happens in the background."""

    @server.get("/image/{size}/{row}")
    def image(size: str, row: int) -> Response:
        if size not in {"large", "small"} or not 0 <= row < len(desk.data.names):
            raise HTTPException(404)
        content, media_type = (desk.pictures.large if size == "large" else desk.pictures.small)(row)
        return Response(content, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})

    @ui.page("/", response_timeout=30)
    def page(name: str = "") -> None:
        is_usable = bool(name.strip()) and not find_text_problem(name)
        Page(desk, name.strip() if is_usable else annotator)

    async def tick() -> None:
        desk.retry()
        # What was read stays; an answer that cannot be written says what is wrong with the file.
        with suppress(OSError, InputError):
            desk.sync()
        await desk.follow()
        if desk.is_round_over():
            background_tasks.create(desk.run_round())

    server.timer(0.5, tick)
    server.on_shutdown(desk.stop)


def find_annotator() -> str:
    """Give the name that git knows the person by, or else the login name.

    Raises
    ------
    InputError
        If there is neither.
    """
    with suppress(FileNotFoundError):
        git = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
        if name := git.stdout.strip():
            return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise InputError("who answers is not known: neither git nor the system has a name, give --annotator") from None


def find_port(host: str) -> int:
    """Give a port that is free, the usual one if it is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (USUAL_PORT, 0):
        with socket.socket(family) as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    raise InputError(f"host is {host}, which is no address of this machine")


if __name__ == "__main__":
    run(main)
