"""An SFTP server of the local file system on loopback, for whoever has the key: what an SSH remote needs of sshd."""

import argparse
import asyncio
from pathlib import Path
from typing import Any, Never

import asyncssh


class ReadOnly(asyncssh.SFTPServer):
    """Refuses what changes a file, in the words of OpenSSH's read-only mode."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        return self.refuse() if pflags & ~asyncssh.FXF_READ else super().open(path, pflags, attrs)

    def refuse(self, *_: Any, **__: Any) -> Never:
        raise asyncssh.SFTPPermissionDenied("Permission denied")

    mkdir = rmdir = remove = rename = posix_rename = link = symlink = setstat = fsetstat = refuse


async def serve(host: str, port: int, keys: Path, read_only: bool) -> None:
    """Serve until killed, with the keys that ``tests.servers.make_keys`` left in a folder."""
    server = await asyncssh.listen(
        host,
        port,
        server_host_keys=[keys / "host_key"],
        authorized_client_keys=str(keys / "user_key.pub"),
        sftp_factory=ReadOnly if read_only else asyncssh.SFTPServer,
    )
    await server.wait_closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--read-only", action="store_true")
    asyncio.run(serve(**vars(parser.parse_args())))
