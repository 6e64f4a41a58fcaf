"""Real servers on loopback for the tests of remotes: an S3 API, SSH, and a relay that cuts either off half-way."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import boto3
import psutil
import pytest

HOST = "127.0.0.1"
START_SECONDS = 30
BUCKET = "few-labels"


@dataclass
class Server:
    """A server process that can be killed and started again on its port."""

    command: list[str]
    port: int
    log: Path
    ready: Callable[[], None] = lambda: None
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=os.environ | self.environment)
        deadline = time.monotonic() + START_SECONDS
        while not is_listening(self.port):
            assert self.process.poll() is None, f"{self.command[0]} ended\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"{self.command[0]} does not answer\n{self.log.read_text()}"
            time.sleep(0.05)
        self.ready()

    def kill(self) -> None:
        if self.process is not None:
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(self.process.pid)
                # sshd leaves each connection to a child, which would serve on.
                for process in [parent, *parent.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
            self.process.wait()


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Have a server answer as long as the block runs."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    """Serve the S3 API with an empty bucket; it lives in memory, so a killed server comes back empty.

    boto3 and dvc find it through the environment that ``s3_environment`` gives.
    """
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "--host", HOST, "--port", str(port)]
    server = Server(command, port, folder / "moto.log", lambda: make_bucket(port))
    with running(server):
        yield server


@contextmanager
def read_only_s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Serve the S3 API, and give the environment of a user who may only read."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "--host", HOST, "--port", str(port)]
    # The requests that set the server up are allowed to anyone, later ones to those who have the right.
    server = Server(command, port, folder / "moto.log", environment={"INITIAL_NO_AUTH_ACTION_COUNT": "4"})
    server.start()
    try:
        make_bucket(port)
        iam = client("iam", port)
        iam.create_user(UserName="reader")
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        reading = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [reading]})
        iam.put_user_policy(UserName="reader", PolicyName="reading", PolicyDocument=policy)
        keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        yield s3_environment(port) | keys
    finally:
        server.kill()


def make_bucket(port: int) -> None:
    client("s3", port).create_bucket(Bucket=BUCKET)


def client(service: str, port: int) -> Any:
    return boto3.client(
        service,
        endpoint_url=f"http://{HOST}:{port}",
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def s3_environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def sftp_server(folder: Path, read_only: bool = False) -> Iterator[Server]:
    """Serve SFTP by throw-away keys, with what ``requirements.txt`` brings.

    ssh clients find it as the host ``storage.example`` through the home that ``ssh_environment`` makes.
    """
    make_keys(folder)
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("sftp_server.py"))]
    command += ["--host", HOST, "--port", str(port), "--keys", str(folder)]
    server = Server(command + ["--read-only"] * read_only, port, folder / "sftp.log")
    with running(server):
        yield server


@contextmanager
def openssh_server(folder: Path, read_only: bool = False) -> Iterator[Server]:
    """Serve SFTP as ``sftp_server`` does, with the server that most remotes run; skip the test where it is missing."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if sshd is None:
        pytest.skip("sshd is missing: apt-get install openssh-server")
    make_keys(folder)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd run by root drops its privileges into it
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(
        f"""
        ListenAddress {HOST}:{port}
        HostKey {folder / "host_key"}
        AuthorizedKeysFile {folder / "user_key.pub"}
        PidFile none
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        UsePAM no
        StrictModes no
        MaxStartups 100
        Subsystem sftp internal-sftp {"-R" if read_only else ""}
        """
    )
    server = Server([sshd, "-D", "-e", "-f", str(config)], port, folder / "sshd.log")
    with running(server):
        yield server


def make_keys(folder: Path) -> None:
    for name in ("host_key", "user_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / name)
        key.write_public_key(folder / f"{name}.pub")
        (folder / name).chmod(0o600)  # sshd takes no key that others can read


def ssh_environment(folder: Path, port: int) -> dict[str, str]:
    """Make a home whose ssh configuration names the server ``storage.example``."""
    configuration = folder / "home" / ".ssh" / "config"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(
        f"Host storage.example\n  HostName {HOST}\n  Port {port}\n  IdentityFile {folder / 'user_key'}\n"
    )
    host_key = (folder / "host_key.pub").read_text()
    (configuration.parent / "known_hosts").write_text(f"[{HOST}]:{port} {host_key}")
    return {"HOME": str(folder / "home")}


@contextmanager
def relay(server: Server) -> Iterator["Relay"]:
    """Stand between clients and a server."""
    with socket.create_server((HOST, 0)) as listener:
        between = Relay(server, listener)
        threading.Thread(target=between.accept, daemon=True).start()
        yield between


@dataclass
class Relay:
    """Passes bytes on, and kills the server when as many passed as it was told."""

    server: Server
    listener: socket.socket
    connections: list[socket.socket] = field(default_factory=list)
    left: float = math.inf

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def kill_server_after(self, n_bytes: int) -> None:
        self.left = n_bytes

    def restart_server(self) -> None:
        self.left = math.inf
        self.server.start()

    def accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self.listener.accept()
                try:
                    self.join(client)
                except OSError:  # the server is dead, or died meanwhile: later clients still get through
                    client.close()

    def join(self, client: socket.socket) -> None:
        upstream = socket.create_connection((HOST, self.server.port))
        self.connections += [client, upstream]
        for source, destination in ((client, upstream), (upstream, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.copy, args=(source, destination), daemon=True).start()

    def copy(self, source: socket.socket, destination: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 14):
                self.left -= len(block)
                if self.left <= 0:
                    self.server.kill()
                    self.cut(self.connections)  # what the dead server left in the kernel's buffers is lost too
                destination.sendall(block)
        self.cut([source, destination])

    def cut(self, connections: list[socket.socket]) -> None:
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # a plain close would leave the other thread waiting
            connection.close()  # and without one a client that is still sending would not be told, and wait


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
