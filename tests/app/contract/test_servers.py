"""PostgreSQL and Redis as the operator starts them (application.md, "Processes" and "Running")."""

import getpass
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Redis, Service, free_port, port_open, postgres_binaries, wait_for
from pods import Pod


def initdb(data: Path, log: Path) -> tuple[int, str]:
    """What the image's entry point does with PGDATA."""
    user = "postgres" if getpass.getuser() == "root" else None
    command = [str(postgres_binaries() / "initdb"), "-D", str(data), "-A", "trust", "-N"]
    with Service(command, log, Path("/"), user=user) as service:
        return service.wait(), service.text


def test_pgdata_is_a_subfolder_of_its_volume(folder: Path) -> None:
    pod = Pod("StatefulSet", "postgresql")
    data = Path(pod.env["PGDATA"])
    volume = pod.volume(str(data))
    assert "persistentVolumeClaim" in volume
    # A fresh file system has this folder.
    root = folder / "volume"
    (root / "lost+found").mkdir(parents=True)
    root.chmod(0o777)
    code, text = initdb(root, folder / "initdb-root")
    assert code == 1 and "lost+found" in text
    code, text = initdb(root / data.relative_to(volume["mountPath"]), folder / "initdb-subfolder")
    assert code == 0, text
    shutil.rmtree(root)


@contextmanager
def full_redis(folder: Path, *options: str) -> Iterator[tuple[Redis, list[str]]]:
    """A Redis with one task in a queue, then filled beyond its limit; and the answers."""
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--maxmemory", "4mb", *options]
    with Service(["redis-server", *words], folder / f"redis{port}.log", folder) as service:
        wait_for(lambda: port_open(port))
        redis = Redis(port)
        assert redis.command("RPUSH", "webhooks", "task") == "1"
        time.sleep(1.1)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            answers = connection.makefile("r")
            for number in range(1500):
                connection.sendall(b"SET cache%d %s\r\n" % (number, b"x" * 10_000))
            yield redis, [answers.readline().strip() for _ in range(1500)]
        service.stop()


def test_a_full_redis_refuses_instead_of_losing_the_queue(tmp_path: Path) -> None:
    words = Pod("StatefulSet", "redis").command
    policy = words.index("--maxmemory-policy")
    with full_redis(tmp_path, "--maxmemory-policy", "allkeys-lru") as (redis, answers):
        assert set(answers) == {"+OK"} and redis.command("LLEN", "webhooks") == "0"
    with full_redis(tmp_path, *words[policy : policy + 2]) as (redis, answers):
        assert any(answer.startswith("-OOM") for answer in answers)
        assert redis.command("LLEN", "webhooks") == "1"
