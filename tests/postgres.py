"""A real PostgreSQL for tests: made in a folder of its own, reached over its socket, stopped at the end.

initdb refuses root, so as root it runs as the user `postgres`, in a folder that user owns. A machine without
PostgreSQL fails these tests; it does not skip them.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

_names = itertools.count(1)


@dataclass
class PostgresServer:
    """One server. `stop` and `start` are for tests in which it dies."""

    folder: Path
    binaries: Path

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket}"

    def make_database(self) -> str:
        """URL of a new, empty database."""
        name = f"t{os.getpid()}_{next(_names)}"
        with psycopg.connect(
            f"postgresql://postgres@/postgres?host={self.socket}", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.socket} -c max_connections=60"
        self.run(
            "pg_ctl",
            "-D",
            str(self.folder / "data"),
            "-l",
            str(self.folder / "log"),
            "-o",
            options,
            "-w",
            "start",
        )

    def stop(self, how: str = "immediate") -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", how, "-w", "stop")

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()


def started_server() -> PostgresServer:
    """Make and start one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    folder = Path(
        tempfile.mkdtemp(prefix="cryptosvc-pg-")
    )  # a socket path must be short, so not under tmp_path
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        folder.chmod(0o755)
    server = PostgresServer(folder, found[-1].parent)
    server.run(
        "initdb",
        "-D",
        str(folder / "data"),
        "-U",
        "postgres",
        "-A",
        "trust",
        "--no-sync",
        "--locale=C",
        "-E",
        "UTF8",
    )
    (folder / "socket").mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder / "socket", "postgres")
    server.start()
    return server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server shared by this test process."""
    server = started_server()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def mortal_postgres() -> Iterator[PostgresServer]:
    """A server of the test's own, to be killed."""
    server = started_server()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
