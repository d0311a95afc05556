"""The application's traps against the pods that the operator makes of it.

The bite and the counter-measure side by side where that is cheap; where not, the bite has a test of
its own: docs/traps.md has both.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from harness import Api, Database, Release, Service, Stub, free_port, port_open, wait_for
from pods import HEAD, Node, Pod, answers, descendants, end, failures_in_a_row, probed

ALL = [
    ("Deployment", "ai-service"),
    ("Deployment", "worker"),
    ("StatefulSet", "beat"),
    ("Deployment", "dashboard"),
    ("Job", "migrate"),
]


@pytest.fixture
def node(agent: Path, release: Release, tmp_path: Path) -> Node:
    """This machine as a node."""
    return Node(agent, release, tmp_path)


def serves(node: Node, pod: Pod, **env: str) -> tuple[Service, int]:
    """The pod's ai-service on a port of its own, and the port."""
    port = free_port()
    words = [str(port) if word == "8000" else word for word in pod.command]
    return node.start(pod, words, **env), port


def at_head(database: Database) -> None:
    """As `agent migrate` leaves it; the tables may follow."""
    database.run("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    database.run(f"INSERT INTO alembic_version VALUES ('{HEAD}')")


def connections(database: Database, allowed: bool) -> None:
    """Lets new connections in, or none; those that are there stay."""
    admin = Database(database.port, "postgres")
    admin.run(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS {str(allowed).lower()}")


@pytest.mark.parametrize(("kind", "component"), ALL)
def test_no_service_links(kind: str, component: str) -> None:
    assert Pod(kind, component).service_links("ai-service", 8000) == {}


def test_a_service_of_that_name_does_no_harm(release: Release, node: Node, tmp_path: Path) -> None:
    beat = Pod("StatefulSet", "beat")
    words = [str(tmp_path / "schedule") if it.startswith("/var") else it for it in beat.command]
    running = node.start(beat, words, **beat.service_links("ai-service", 8000))
    beat.spec["enableServiceLinks"] = True
    linked = node.start(beat, words, **beat.service_links("ai-service", 8000))
    assert linked.wait() == 2
    wait_for(lambda: "beat: Starting" in running.text)
    assert running.running


def test_a_worker_waits_for_its_database_and_then_has_handlers(
    release: Release, node: Node
) -> None:
    """A container that is restarted while the database is away."""
    api = release.api()
    at_head(release.database)
    connections(release.database, allowed=False)
    pod = Pod("Deployment", "worker")
    worker = node.start(pod, SAMPLE_FORK_SAFE="1")
    wait_for(lambda: '"waiting_for":"Database' in worker.text)
    event = api.webhook(confidence=0.9)
    time.sleep(2)
    assert release.redis.command("LLEN", "webhooks") == "1"
    connections(release.database, allowed=True)
    row = "SELECT id FROM audit_logs WHERE status = 'PENDING'"
    wait_for(lambda: release.database.run(row))
    processed = f"SELECT processed FROM webhook_events WHERE id = {event}"
    assert release.database.value(processed) is True

    # What is approved goes to the queue `celery`, which nothing names.
    body = {"audit_log_id": release.database.value(row), "approved": True}
    api.http.post("/api/approve", json=body).raise_for_status()
    executed = "SELECT count(*) FROM audit_logs WHERE status = 'EXECUTED'"
    wait_for(lambda: release.database.value(executed) == 1)


def test_on_an_empty_database_all_wait_for_the_job_that_makes_the_tables(
    release: Release, node: Node, tmp_path: Path
) -> None:
    pod = Pod("Deployment", "ai-service")
    started = [serves(node, pod) for _ in range(2)]
    for service, _ in started:
        wait_for(lambda it=service: '"waiting_for":"SchemaAbsent"' in it.text)
    assert release.database.tables() == set()
    migrate = node.start(Pod("Job", "migrate"))
    assert migrate.wait() == 0, migrate.text
    assert '"reason":"Bootstrapped"' in (tmp_path / "termination").read_text()
    for service, port in started:
        wait_for(lambda it=service, at=port: not it.running or port_open(at))
        assert service.running, service.text
    assert release.database.value("SELECT count(*) FROM automation_rules") >= 45


def test_a_hanging_odoo_freezes_only_what_asks_for_it_and_what_froze_is_killed(
    release: Release, node: Node, own_stub: Stub
) -> None:
    at_head(release.database)
    pod = Pod("Deployment", "ai-service")
    own_stub.mode("hang")
    service, port = serves(node, pod, ODOO_URL=own_stub.url)
    wait_for(lambda: port_open(port))
    liveness = pod.probe("liveness")
    for probe in (pod.probe("readiness"), liveness):
        assert failures_in_a_row(probed(port, probe, seconds=1), probe) == 0

    # Somebody opens /health after all.
    threading.Thread(target=answers, args=(port, "/health", 20), daemon=True).start()
    time.sleep(0.5)
    assert not answers(port, liveness["httpGet"]["path"], 1.5)
    grace = liveness["terminationGracePeriodSeconds"]
    assert grace <= 10 < pod.spec["terminationGracePeriodSeconds"]
    assert end(service, grace / 4) == -signal.SIGKILL


def test_a_websocket_stalls_the_process_and_flaps_no_probe(release: Release, node: Node) -> None:
    at_head(release.database)
    pod = Pod("Deployment", "ai-service")
    _, port = serves(node, pod)
    wait_for(lambda: port_open(port))
    with connect(f"ws://127.0.0.1:{port}/ws/dashboard?role=cfo", open_timeout=10) as socket, load(
        port
    ):
        socket.send("ping")
        socket.recv(timeout=5)
        readiness, liveness = pod.probe("readiness"), pod.probe("liveness")
        times = probed(port, readiness, seconds=10)
    short = {name: value for name, value in readiness.items() if name != "timeoutSeconds"}
    assert failures_in_a_row(times, short) >= short["failureThreshold"], times
    for probe in (readiness, liveness):
        assert failures_in_a_row(times, probe) == 0, times


@contextmanager
def load(port: int) -> Iterator[None]:
    """A few people look at the rules all the time."""
    ended = threading.Event()

    def person() -> None:
        while not ended.is_set():
            answers(port, "/api/rules", 20)

    for _ in range(4):
        threading.Thread(target=person, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def backdate(release: Release, schedule: Path, entry: str, days: int) -> None:
    """As if beat had been running for that long since the entry was last due."""
    code = (
        "import datetime, shelve, sys\n"
        "with shelve.open(sys.argv[1], writeback=True) as kept:\n"
        "    kept['entries'][sys.argv[2]].last_run_at -= datetime.timedelta(days=int(sys.argv[3]))"
    )
    changed = release.start("python", "-c", code, str(schedule), entry, str(days))
    assert changed.wait() == 0, changed.text


def test_beat_keeps_its_due_times_on_a_volume(
    release: Release, node: Node, tmp_path: Path
) -> None:
    pod = Pod("StatefulSet", "beat")
    file = pod.command[pod.command.index("-s") + 1]
    assert "persistentVolumeClaim" in pod.volume(file)
    # Never two, and an identity that a second pod can't have while the first one lives.
    assert pod.object["spec"]["replicas"] == 1

    def beat(folder: str) -> Service:
        schedule = tmp_path / folder / "schedule"
        schedule.parent.mkdir(exist_ok=True)
        nowhere = {
            "AI_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
            "ODOOAI_DATABASE_PORT": "1",
        }
        words = [str(schedule) if word == file else word for word in pod.command]
        return node.start(pod, words, **nowhere)

    first = beat("kept")
    wait_for(lambda: "beat: Starting" in first.text)
    time.sleep(1)
    assert end(first, pod.spec["terminationGracePeriodSeconds"]) == 0
    # Six days and some hours later, a restart: the week is over soon. Here it is over at once.
    backdate(release, tmp_path / "kept" / "schedule", "weekly-duplicates", 7)
    forgetful, again = beat("lost"), beat("kept")
    wait_for(lambda: "Sending due task weekly-duplicates" in again.text)
    wait_for(lambda: "beat: Starting" in forgetful.text)
    time.sleep(1)
    assert "Sending" not in forgetful.text
    assert release.redis.command("LLEN", "scheduled") == "1"

    # Why there must never be two: they don't notice each other.
    assert end(again, 5) == 0
    schedule = tmp_path / "kept" / "schedule"
    backdate(release, schedule, "weekly-duplicates", 7)
    two = release.start("python", "-c", TWO_BEATS, str(schedule))
    assert two.wait() == 0, two.text
    assert release.redis.command("LLEN", "scheduled") == "3"


TWO_BEATS = """
import sys
from celery.beat import PersistentScheduler
from app.tasks.celery_app import celery_app
beats = [PersistentScheduler(app=celery_app, schedule_filename=sys.argv[1]) for _ in range(2)]
# Each reads the file once.
assert all(beat.schedule for beat in beats)
for beat in beats:
    beat.tick()
"""


def test_a_worker_that_ends_finishes_its_task_within_its_grace(
    release: Release, node: Node
) -> None:
    api = release.api()
    at_head(release.database)
    pod = Pod("Deployment", "worker")
    grace = pod.spec["terminationGracePeriodSeconds"]
    limit = release.start("python", "-c", LIMIT)
    assert limit.wait() == 0 and int(limit.text) < grace

    def started(seconds: float) -> tuple[Service, int]:
        worker = node.start(pod, SAMPLE_FORK_SAFE="1")
        wait_for(lambda: " ready." in worker.text)
        return worker, running_task(release, api, seconds)

    # With a grace that is too short the task is lost to everybody for an hour.
    worker, event = started(60)
    assert end(worker, 1) == -signal.SIGKILL
    assert release.redis.command("HLEN", "unacked") != "0"
    assert release.database.value(done(event)) is not True
    release.redis.command("DEL", "unacked", "unacked_index")
    wait_for(lambda: not release.database.value(working(release)))

    worker, event = started(3)
    assert end(worker, grace) == 0
    assert release.database.value(done(event)) is True
    assert release.redis.command("HLEN", "unacked") == "0"


LIMIT = "from app.tasks.celery_app import celery_app; print(celery_app.conf.task_time_limit)"


def working(release: Release) -> str:
    """A task holds its transaction open while it works."""
    return (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{release.database.name}'"
        " AND state = 'idle in transaction'"
    )


def running_task(release: Release, api: Api, seconds: float) -> int:
    """An event that is being worked on; where a worker was too quick and dropped it, another."""

    def seen() -> str | None:
        if release.database.value(working(release)):
            return "works"
        left = [("LLEN", "webhooks"), ("HLEN", "unacked")]
        return "dropped" if all(release.redis.command(*it) == "0" for it in left) else None

    for _ in range(5):
        event = api.webhook(sleep=seconds)
        if wait_for(seen) == "works":
            return event
    raise AssertionError("five events in a row were dropped")


def done(event: int) -> str:
    return f"SELECT processed FROM webhook_events WHERE id = {event}"


def test_a_killed_child_loses_its_task_and_leaves_a_trace(release: Release) -> None:
    """As when memory runs out: the container goes on. `WebhooksProcessed` counts the row."""
    api = release.api()
    worker = release.worker(SAMPLE_FORK_SAFE="1")
    event = running_task(release, api, 60)
    for child in descendants(worker.process.pid):
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: "SIGKILL" in worker.text)
    time.sleep(0.5)
    assert worker.running
    wait_for(lambda: release.redis.command("HLEN", "unacked") == "0")
    assert release.redis.command("LLEN", "webhooks") == "0"
    assert release.database.value(done(event)) is not True
