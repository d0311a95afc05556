"""What the contract tests run: processes, databases and a release of the application.

Every wait ends; every process is stopped by its own id.
"""

import ctypes
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg2

LIMIT = 30.0
KEY = "contract-key"
SECRET = "contract-secret"
_logs = count()


# Below the ports that clients get, and apart from those of the other pytest workers: between the
# choice of a port and its use nobody else takes it.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = count(20_000 + 3_000 * (_WORKER % 4))


def free_port() -> int:
    """A port that nobody listens on just now, and that is given away once."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("it counts for ever")


def wait_for(condition: Callable[[], Any], limit: float = LIMIT) -> Any:
    """The condition's first true value; an AssertionError when the limit is over."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {limit} s")


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Service:
    """A process that is ended with its `with` block, and when this one is killed."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        cwd: Path,
        env: dict[str, str] | None = None,
        user: str | None = None,
        last_word: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                user=user,
                group=user,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, int(last_word)),
            )

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT)

    def stop(self, limit: float = LIMIT) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(limit)

    def wait(self, limit: float = LIMIT) -> int:
        """The exit code of a process that ends by itself."""
        return self.process.wait(limit)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")


class Postgres(Service):
    """A PostgreSQL without a password on 127.0.0.1."""

    def __init__(self, folder: Path, user: str | None) -> None:
        binaries, data = postgres_binaries(), str(folder / "data")
        self.port = free_port()
        folder.mkdir()
        if user:
            shutil.chown(folder, user, user)
        initdb = ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        with Service([str(binaries / "initdb"), *initdb], folder / "init", folder, user=user) as it:
            assert it.wait() == 0, it.text
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "full_page_writes": "off",
        }
        words = [word for item in options.items() for word in ("-c", "=".join(item))]
        command = [str(binaries / "postgres"), "-D", data, "-p", str(self.port), *words]
        super().__init__(command, folder / "log", folder, user=user, last_word=signal.SIGQUIT)
        wait_for(lambda: "ready to accept connections" in self.text)


def postgres_binaries() -> Path:
    """Where this machine's PostgreSQL has its server programs."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert installed, "no PostgreSQL server on this machine"
    return installed[-1].parent


class Database:
    """One database of the private PostgreSQL."""

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self.port = port
        self.url = f"postgresql://postgres@127.0.0.1:{port}/{name}"

    def connect(self) -> Any:
        """A connection of its own, with a limit on every statement."""
        return psycopg2.connect(self.url, connect_timeout=5, options="-c statement_timeout=15000")

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Runs it at once; the rows, where there are any."""
        connection = self.connect()
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def value(self, query: str) -> Any:
        """The first column of the first row."""
        return self.run(query)[0][0]

    def tables(self) -> set[str]:
        """Names of the tables."""
        rows = self.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row[0] for row in rows}

    def labels(self, enum: str = "automationtype") -> list[str]:
        """An enum type's labels in order."""
        query = "SELECT enumlabel FROM pg_enum WHERE enumtypid = '{}'::regtype ORDER BY 1"
        return [row[0] for row in self.run(query.format(enum))]


class Redis:
    """The private Redis, one database number per test."""

    def __init__(self, port: int, number: int = 0) -> None:
        self.port = port
        self.number = number
        self.url = f"redis://127.0.0.1:{port}/{number}"
        self._next = count(1)

    def next(self) -> "Redis":
        """A database number, emptied; they come round after fifteen."""
        fresh = Redis(self.port, next(self._next) % 15 + 1)
        fresh.command("FLUSHDB")
        return fresh

    def command(self, *words: str) -> str:
        """What redis-cli answers."""
        command = ["redis-cli", "-p", str(self.port), "-n", str(self.number), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()


class Stub:
    """An Odoo stub on ports of its own."""

    def __init__(self, script: Path, folder: Path, **env: str) -> None:
        port, self._control = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        ports = {"STUB_PORT": str(port), "STUB_CONTROL_PORT": str(self._control)}
        log = folder / f"stub{next(_logs)}.log"
        self._service = Service(
            [sys.executable, str(script)], log, folder, {**os.environ, **ports, **env}
        )
        self._ports = [self._control] if env.get("STUB_MODE") == "refuse" else [self._control, port]

    def __enter__(self) -> "Stub":
        wait_for(lambda: all(port_open(port) for port in self._ports))
        return self

    def __exit__(self, *_: object) -> None:
        self._service.__exit__()

    def mode(self, mode: str) -> None:
        """Switches at run time."""
        answer = httpx.post(f"http://127.0.0.1:{self._control}/stub/mode", content=mode)
        assert answer.status_code == 200, answer.text

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._service.stop()


def port_open(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Release:
    """A release of the application with its settings; ends all that it started."""

    def __init__(
        self,
        paths: Callable[[str], Path],
        version: str,
        database: Database,
        redis: Redis,
        odoo_url: str,
        **env: str,
    ) -> None:
        self._paths = paths
        self.path = paths(version)
        self.database = database
        self.redis = redis
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONUNBUFFERED": "1",
            "HOME": "/nonexistent",
            "AI_DATABASE_URL": database.url,
            "REDIS_URL": redis.url,
            "ODOO_URL": odoo_url,
            "AI_SECRET_KEY": KEY,
            "WEBHOOK_SECRET": SECRET,
            **env,
        }
        self._services: list[Service] = []

    @staticmethod
    def install(path: Path, version: str) -> None:
        """The image's last build step."""
        command = [sys.executable, "-m", "app.sample.install", version]
        subprocess.run(command, cwd=path, check=True, timeout=30)

    def __enter__(self) -> "Release":
        return self

    def __exit__(self, *_: object) -> None:
        for service in self._services:
            service.__exit__()

    def version(self, version: str) -> "Release":
        """Another release on the same database; it ends with this one."""
        other = Release(self._paths, version, self.database, self.redis, self.env["ODOO_URL"])
        other._services = self._services
        return other

    def start(self, *command: str, **env: str) -> Service:
        """A process in the release's working directory."""
        log = self.path.parent / f"process{next(_logs)}.log"
        words = _script(command)
        # Told to stop, Celery takes its children along.
        last = signal.SIGTERM if command[0] == "celery" else signal.SIGKILL
        service = Service(words, log, self.path, {**self.env, **env}, last_word=last)
        self._services.append(service)
        return service

    def api(self, wait: bool = True, **env: str) -> "Api":
        """ai-service, ready unless told otherwise."""
        port = free_port()
        service = self.start("uvicorn", "app.main:app", "--port", str(port), **env)
        api = Api(service, port)
        if wait:
            wait_for(lambda: not service.running or port_open(port))
            assert service.running, service.text
        return api

    def worker(
        self,
        wait: bool = True,
        queues: str = "webhooks,automations,scheduled",
        children: int = 2,
        **env: str,
    ) -> Service:
        """The worker, ready unless told otherwise."""
        name = f"worker{next(_logs)}@contract"
        app = ("celery", "-A", "app.tasks.celery_app:celery_app")
        options = ("--loglevel=info", "-Q", queues, "-c", str(children), "-n", name)
        service = self.start(*app, "worker", *options, **env)
        if wait:
            wait_for(lambda: not service.running or f"{name} ready" in service.text)
            assert service.running, service.text
        return service

    def beat(self, schedule: Path, **env: str) -> Service:
        """Beat with that schedule file."""
        app = ("celery", "-A", "app.tasks.celery_app:celery_app")
        return self.start(*app, "beat", "--loglevel=info", "-s", str(schedule), **env)

    def alembic(self, *arguments: str, **env: str) -> "Result":
        """One Alembic command to its end."""
        service = self.start("alembic", *arguments, **env)
        return Result(service.wait(), service.text)

    def bootstrap(self) -> None:
        """What an empty database needs: create_all, then a stamp."""
        code = "from app.models.audit import init_db; init_db()"
        service = self.start("python", "-c", code)
        assert service.wait() == 0, service.text
        assert self.alembic("stamp", "head").code == 0


class Result:
    """A command's end."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


class Api:
    """A running ai-service."""

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT)
        # uvicorn drops a connection after a 500 without saying so: never use one twice.
        self.http.headers.update({"X-API-Key": KEY, "Connection": "close"})

    def webhook(self, model: str = "crm.lead", **values: Any) -> int:
        """Sends a signed event; its id."""
        body = {"event_type": "write", "model": model, "record_id": 7, "values": values}
        answer = self.signed("/webhooks/odoo", json.dumps(body).encode())
        assert answer.status_code == 200, answer.text
        return answer.json()["event_id"]

    def signed(self, path: str, body: bytes) -> httpx.Response:
        """A POST with the right signature."""
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Webhook-Signature": signature, "Content-Type": "application/json"}
        return self.http.post(path, content=body, headers=headers)


def _script(command: tuple[str, ...]) -> list[str]:
    """The environment's own script of that name: PATH may lead elsewhere."""
    return [str(Path(sys.executable).parent / command[0]), *command[1:]]


def kill(service: Service) -> None:
    """What the kubelet does when patience ends."""
    service.process.send_signal(signal.SIGKILL)
    service.wait()
