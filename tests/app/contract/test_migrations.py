"""Alembic's results on every kind of database (application.md, "Migrations")."""

from pathlib import Path

import pytest

from harness import Database, Release, kill, wait_for

RELEASED_SQL = Path(__file__).parent.parent / "fixtures" / "released.sql"
CREATE_ALL = "from app.models.audit import init_db; init_db()"
NEW_NAMES = {
    "MONTH_END",
    "DEDUPLICATION",
    "CREDIT_MANAGEMENT",
    "FORECASTING",
    "REPORTING",
    "DOCUMENT_PROCESSING",
    "SUPPLY_CHAIN",
    "AGENT_WORKFLOW",
}


@pytest.fixture
def released(database: Database) -> Database:
    """The three tables of a released version, with rows, without Alembic."""
    database.run(RELEASED_SQL.read_text())
    return database


def create_all(release: Release) -> None:
    service = release.start("python", "-c", CREATE_ALL)
    assert service.wait() == 0, service.text


def test_current_on_an_empty_database_says_and_makes_nothing(release: Release) -> None:
    result = release.alembic("current")
    assert result.code == 0
    assert [line for line in result.text.splitlines() if not line.startswith("INFO")] == []
    assert release.database.tables() == set()


def test_upgrade_of_an_empty_database_finds_no_type(release: Release) -> None:
    result = release.alembic("upgrade", "head")
    assert result.code == 1
    assert 'type "automationtype" does not exist' in result.text
    assert release.database.tables() == set()


def test_create_all_and_upgrade_collide(release: Release) -> None:
    create_all(release)
    assert len(release.database.tables()) == 25
    assert release.database.value("SELECT count(*) FROM pg_type WHERE typtype = 'e'") == 6
    result = release.alembic("upgrade", "head")
    assert result.code == 1
    assert 'relation "month_end_closings" already exists' in result.text


def test_create_all_and_stamp_are_clean(release: Release) -> None:
    release.bootstrap()
    assert len(release.database.tables()) == 26
    result = release.alembic("check")
    assert result.code == 0, result.text


def test_a_released_database_upgrades_to_other_columns(
    release: Release, released: Database
) -> None:
    result = release.alembic("upgrade", "head")
    assert result.code == 0, result.text
    assert len(released.tables()) == 26
    labels = set(released.labels())
    assert not labels & NEW_NAMES
    assert {name.lower() for name in NEW_NAMES} <= labels
    check = release.alembic("check")
    assert check.code == 255
    assert check.text.count("Detected type change from VARCHAR(length=20) to Enum") == 4
    assert check.text.count("Detected added index") == 2


def test_a_released_database_that_a_new_pod_touched_collides(
    release: Release, released: Database
) -> None:
    create_all(release)
    assert not set(released.labels()) & NEW_NAMES
    result = release.alembic("upgrade", "head")
    assert result.code == 1
    assert 'relation "month_end_closings" already exists' in result.text
    assert "alembic_version" not in released.tables()


def test_from_002(release: Release, released: Database) -> None:
    assert release.alembic("upgrade", "002_phase1_tables").code == 0
    create_all(release)
    result = release.alembic("upgrade", "head")
    assert result.code == 1
    assert 'relation "agent_runs" already exists' in result.text
    assert released.value("SELECT version_num FROM alembic_version") == "002_phase1_tables"


def test_from_002_before_any_pod(release: Release, released: Database) -> None:
    assert release.alembic("upgrade", "002_phase1_tables").code == 0
    assert release.alembic("upgrade", "head").code == 0
    assert {"supply_chain", "agent_workflow"} <= set(released.labels())


def test_a_database_newer_than_the_image(release: Release, database: Database) -> None:
    database.run("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    database.run("INSERT INTO alembic_version VALUES ('009_future')")
    for command in (("upgrade", "head"), ("current",)):
        result = release.alembic(*command)
        assert result.code == 255
        assert "Can't locate revision identified by '009_future'" in result.text


def test_two_upgrades_at_once(release: Release, released: Database) -> None:
    """The first one's part is played here: its table is there, but not yet committed."""
    first = released.connect()
    with first.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        second = release.start("alembic", "upgrade", "head")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_for(lambda: released.value(waiting))
        first.commit()
    first.close()
    assert second.wait() == 1
    assert "UniqueViolation" in second.text and "alembic_version" in second.text


def test_downgrades_leave_the_first_tables(release: Release, released: Database) -> None:
    assert release.alembic("upgrade", "head").code == 0
    assert release.alembic("downgrade", "-1").code == 0
    assert len(released.tables()) == 26 - 9
    assert release.alembic("downgrade", "base").code == 0
    assert len(released.tables()) == 4
    assert "month_end" in released.labels()


def test_percent_in_the_url_fails_and_shows_the_password(release: Release) -> None:
    url = release.database.url.replace("postgres@", "postgres:pa%2Fss@")
    result = release.alembic("current", AI_DATABASE_URL=url)
    assert result.code == 1
    assert "invalid interpolation syntax" in result.text and "pa%2Fss" in result.text
    # The cure for Alembic is the application's illness: it takes the text as it is.
    doubled = release.alembic("current", AI_DATABASE_URL=url.replace("%", "%%"))
    assert doubled.code == 0


def test_the_password_may_come_from_pgpassword(release: Release) -> None:
    result = release.alembic("current", PGPASSWORD="pa%2Fss")
    assert result.code == 0, result.text


def test_004_is_additive_and_old_images_live_with_it(release: Release) -> None:
    release.bootstrap()
    newer = release.version("1.1.0")
    result = newer.alembic("upgrade", "head")
    assert result.code == 0, result.text
    assert newer.alembic("check").code == 0
    assert release.api().http.get("/api/rules").status_code == 200


def test_a_pod_of_1_1_0_on_the_older_schema_ends(release: Release) -> None:
    release.bootstrap()
    newer = release.version("1.1.0")
    service = newer.api(wait=False).service
    assert service.wait() == 3
    assert "last_used_at" in service.text
    # And its create_all has made the table that its own migration wants to make.
    result = newer.alembic("upgrade", "head")
    assert result.code == 1 and 'relation "rule_usage" already exists' in result.text


def test_a_failing_migration_leaves_nothing(release: Release) -> None:
    release.bootstrap()
    failing = release.version("1.2.0-failing-migration")
    result = failing.alembic("upgrade", "head")
    assert result.code == 1 and 'relation "no_such_table" does not exist' in result.text
    tables = release.database.tables()
    assert "half_done" not in tables and "rule_usage" not in tables
    version = "SELECT version_num FROM alembic_version"
    assert release.database.value(version) == "003_phase2_tables"


def test_a_hanging_migration_keeps_readers_out(release: Release) -> None:
    release.bootstrap()
    hanging = release.version("1.2.0-hanging-migration").start("alembic", "upgrade", "head")
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    wait_for(lambda: release.database.value(sleeping))
    with pytest.raises(Exception, match="lock timeout"):
        release.database.run("SET lock_timeout = '300ms'; SELECT * FROM automation_rules")
    kill(hanging)
    release.database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    )


def test_2_0_0_breaks_older_images(release: Release) -> None:
    release.bootstrap()
    breaking = release.version("2.0.0")
    result = breaking.alembic("upgrade", "head")
    assert result.code == 0, result.text
    assert "quality" in release.database.labels() and "QUALITY" not in release.database.labels()
    api = release.api()
    body = b'{"event_type": "write", "model": "crm.lead", "record_id": 1}'
    assert api.signed("/webhooks/odoo", body).status_code == 500


def test_offline_sql_shows_what_is_pending(release: Release) -> None:
    result = release.version("1.1.0").alembic("upgrade", "003_phase2_tables:head", "--sql")
    assert result.code == 0
    assert "ALTER TABLE automation_rules ADD COLUMN last_used_at" in result.text
