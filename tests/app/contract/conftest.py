"""Private PostgreSQL and Redis, an Odoo stub, and releases in temporary folders."""

import getpass
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from harness import (
    Database,
    Postgres,
    Redis,
    Release,
    Service,
    Stub,
    free_port,
    port_open,
    wait_for,
)

APP = Path(__file__).parent.parent
_names = count()


PREFIX = "odooai-contract-"


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that the postgres user can enter; gone at the end, or at the next start."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(PREFIX).split("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def postgres(folder: Path) -> Iterator[int]:
    """The port of a PostgreSQL of our own; it refuses to run as root."""
    user = "postgres" if getpass.getuser() == "root" else None
    with Postgres(folder / "pg", user) as running:
        yield running.port
        running.process.send_signal(signal.SIGINT)
        running.wait()


@pytest.fixture
def database(postgres: int) -> Database:
    """An empty database."""
    database = Database(postgres, f"test{next(_names)}")
    Database(postgres, "postgres").run(f"CREATE DATABASE {database.name}")
    return database


@pytest.fixture(scope="session")
def redis(folder: Path) -> Iterator[Redis]:
    """A Redis of our own; `redis.next()` gives a fresh database number."""
    port = free_port()
    arguments = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", ""]
    with Service([*map(str, arguments)], folder / "redis.log", cwd=folder) as service:
        wait_for(lambda: port_open(port))
        yield Redis(port)
        service.stop()


@pytest.fixture(scope="session")
def stub(folder: Path) -> Iterator[Stub]:
    """The Odoo stub; a test that changes its mode uses one of its own."""
    with Stub(APP / "odoo-stub" / "stub.py", folder) as running:
        yield running


@pytest.fixture
def own_stub(folder: Path) -> Iterator[Stub]:
    """An Odoo stub whose mode may be changed."""
    with Stub(APP / "odoo-stub" / "stub.py", folder) as running:
        yield running


@pytest.fixture(scope="session")
def agent() -> Path:
    """The operator's agent, for what runs behind it."""
    path = Path(os.environ.get("ODOOAI_AGENT") or "/nonexistent")
    if not path.exists():
        pytest.skip("ODOOAI_AGENT names no agent; `cargo build -p odoo-ai-agent` makes one")
    return path


@pytest.fixture(scope="session")
def releases(folder: Path) -> "ReleaseFolders":
    """Each release's folder, made when first asked for."""
    return ReleaseFolders(folder)


class ReleaseFolders:
    """Releases, installed as the image's last build step does it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}

    def path(self, version: str) -> Path:
        """The working directory of that release."""
        if version not in self._made:
            target = self._folder / version
            ignored = shutil.ignore_patterns("__pycache__", "installed", ".env")
            shutil.copytree(APP / "ai-service", target, ignore=ignored)
            Release.install(target, version)
            self._made[version] = target
        return self._made[version]


@pytest.fixture
def release(releases: ReleaseFolders, database: Database, redis: Redis, stub: Stub) -> Release:
    """Release 1.0.0 on an empty database; processes end with the test."""
    with Release(releases.path, "1.0.0", database, redis.next(), stub.url) as made:
        yield made
