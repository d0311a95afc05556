"""What happens at start (application.md, "Start" and "Settings")."""

import sys
import time
from pathlib import Path

import pytest

from harness import KEY, Release, Service, free_port, wait_for

CELERY = ("celery", "-A", "app.tasks.celery_app:celery_app")
CELERY_SCRIPT = Path(sys.executable).parent / "celery"


def nowhere() -> str:
    return f"postgresql://nobody@127.0.0.1:{free_port()}/nowhere"


@pytest.mark.parametrize("variable", ["AI_SERVICE_PORT", "smtp_port"])
def test_service_links_end_every_command(release: Release, variable: str) -> None:
    link = {variable: "tcp://10.43.0.7:8000"}
    started = [
        release.start("uvicorn", "app.main:app", "--port", str(free_port()), **link),
        release.start(*CELERY, "worker", **link),
        release.start("alembic", "current", **link),
    ]
    assert [service.wait() for service in started] == [1, 2, 1]


def test_ai_service_without_its_database_exits_3(release: Release) -> None:
    assert release.api(wait=False, AI_DATABASE_URL=nowhere()).service.wait() == 3


def test_a_worker_without_its_database_stays_and_has_no_handlers(release: Release) -> None:
    """The database is away while the worker starts, and back before the event."""
    api = release.api()
    database = release.database
    admin = type(database)(database.port, "postgres")
    admin.run(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
    worker = release.worker(SAMPLE_FORK_SAFE="1")
    admin.run(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")
    event = api.webhook()
    processed = f"SELECT processed FROM webhook_events WHERE id = {event}"
    wait_for(lambda: database.value(processed))
    assert database.value("SELECT count(*) FROM audit_logs") == 0
    assert worker.running and "rror" not in worker.text


def test_create_all_races(release: Release) -> None:
    """The other process's part is played here: its type is there, but not yet committed."""
    first = release.database.connect()
    with first.cursor() as cursor:
        cursor.execute("CREATE TYPE automationtype AS ENUM ('CRM')")
        service = release.api(wait=False).service
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_for(lambda: release.database.value(waiting))
        first.commit()
    first.close()
    assert service.wait() == 3
    assert "pg_type_typname_nsp_index" in service.text


def test_45_rules_are_seeded_into_an_empty_table_only(release: Release) -> None:
    api = release.api()
    rules = api.http.get("/api/rules").json()
    assert len(rules) == 45 and all(rule["enabled"] for rule in rules)
    assert len({(rule["automation_type"], rule["action_name"]) for rule in rules}) == 45
    release.database.run("DELETE FROM automation_rules WHERE id > 1")
    api.service.stop()
    assert len(release.api().http.get("/api/rules").json()) == 1


def test_settings_ignore_case_and_a_file_is_read(release: Release) -> None:
    code = "from app.config import get_settings as s; print(s().ai_secret_key, s().claude_model)"
    release.env["ai_secret_key"] = release.env.pop("AI_SECRET_KEY")
    file = release.path / ".env"
    file.write_text("CLAUDE_MODEL=from-file\nai_secret_key=loses\n")
    try:
        service = release.start("python", "-c", code)
        assert service.wait() == 0
    finally:
        file.unlink()
    assert service.text.split() == [KEY, "from-file"]


def test_an_empty_key_locks_everyone_out(release: Release) -> None:
    api = release.api(AI_SECRET_KEY="")
    for headers in ({"X-API-Key": ""}, {"X-API-Key": KEY}):
        assert api.http.get("/api/rules", headers=headers).status_code == 401


def test_placeholders_open_the_api(release: Release) -> None:
    del release.env["AI_SECRET_KEY"]
    answer = release.api().http.get("/api/rules", headers={"X-API-Key": "change-me"})
    assert answer.status_code == 200


def test_the_log_level_is_an_argument(release: Release, tmp_path: Path) -> None:
    command = (*CELERY, "beat", "-s", str(tmp_path / "schedule"))
    quiet = release.start(*command, "--loglevel=info", LOG_LEVEL="DEBUG")
    loud = release.start(*command, "--loglevel=debug")
    wait_for(lambda: "DEBUG" in loud.text and "beat: Starting" in quiet.text)
    assert "DEBUG" not in quiet.text


def test_celery_finds_the_application_in_its_folder_only(release: Release) -> None:
    code = f"import os; os.chdir('/'); os.execv({str(CELERY_SCRIPT)!r}, {[*CELERY, 'report']!r})"
    elsewhere = release.start("python", "-c", code)
    here = release.start(*CELERY, "report")
    assert elsewhere.wait() == 2 and "No module named 'app'" in elsewhere.text
    assert here.wait() == 0


def test_cors_origins_replace_the_default(release: Release) -> None:
    api = release.api(CORS_ORIGINS="https://a.example, https://b.example")
    allowed = {
        origin: api.http.get("/openapi.json", headers={"Origin": origin}).headers.get(
            "access-control-allow-origin"
        )
        for origin in ("https://b.example", "http://localhost:3000")
    }
    assert allowed == {"https://b.example": "https://b.example", "http://localhost:3000": None}


def test_redis_away_at_start(release: Release) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    api = release.api(REDIS_URL=away)
    assert api.http.get("/openapi.json").status_code == 200
    worker = release.worker(wait=False, REDIS_URL=away)
    wait_for(lambda: "Trying again" in worker.text)
    assert worker.running


def test_beat_needs_a_writable_file_and_no_database(release: Release, tmp_path: Path) -> None:
    unwritable = release.beat(tmp_path / "missing" / "schedule", AI_DATABASE_URL=nowhere())
    beat = release.beat(tmp_path / "schedule", AI_DATABASE_URL=nowhere())
    assert unwritable.wait() == 1
    wait_for(lambda: "beat: Starting" in beat.text)
    _settled(beat)
    assert release.redis.command("KEYS", "*") in ("", "_kombu.binding.celery")
    assert beat.stop(5) == 0
    assert [path.name for path in tmp_path.iterdir()]


def _settled(beat: Service) -> None:
    """Beat has read its schedule: its file is there, and nothing was sent."""
    time.sleep(1)
    assert beat.running and "Sending" not in beat.text


def test_the_schedule_has_18_intervals(release: Release) -> None:
    code = (
        "from app.tasks.celery_app import celery_app as c;"
        "s = [e['schedule'] for e in c.conf.beat_schedule.values()];"
        "print(len(s), min(s), max(s))"
    )
    service = release.start("python", "-c", code)
    assert service.wait() == 0
    assert service.text.split() == ["18", "1800.0", "604800.0"]
