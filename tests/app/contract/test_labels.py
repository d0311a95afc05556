"""Trap: names in the code, values in the migrations (application.md, "Labels")."""

from pathlib import Path

import pytest

from harness import Database, Release, wait_for

RELEASED_SQL = Path(__file__).parent.parent / "fixtures" / "released.sql"
RULE = {"name": "n", "automation_type": "month_end", "action_name": "a"}
METADATA = """
from sqlalchemy import Enum
from app.models.audit import Base
for table in Base.metadata.tables.values():
    for column in table.columns:
        if isinstance(column.type, Enum):
            print(column.type.name, *column.type.enums)
"""


@pytest.fixture
def upgraded(database: Database, release: Release) -> Database:
    """A released database after a successful upgrade."""
    database.run(RELEASED_SQL.read_text())
    assert release.alembic("upgrade", "head").code == 0
    return database


def test_writes_for_new_types_fail_until_the_label_is_added(
    release: Release, upgraded: Database
) -> None:
    api = release.api()
    assert api.http.post("/api/rules", json=RULE).status_code == 500
    upgraded.run("ALTER TYPE automationtype ADD VALUE IF NOT EXISTS 'MONTH_END'")
    assert api.http.post("/api/rules", json=RULE).status_code == 200
    assert upgraded.value("SELECT automation_type::text FROM automation_rules WHERE id = 4") == (
        "MONTH_END"
    )


def test_a_row_with_a_lower_case_label_fails_the_whole_list(
    release: Release, upgraded: Database
) -> None:
    api = release.api()
    assert len(api.http.get("/api/rules").json()) == 3
    upgraded.run("UPDATE automation_rules SET automation_type = 'month_end' WHERE id = 1")
    answer = api.http.get("/api/rules")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    wait_for(lambda: "LookupError" in api.service.text)
    upgraded.run("ALTER TYPE automationtype RENAME VALUE 'month_end' TO 'MONTH_END'")
    assert len(api.http.get("/api/rules").json()) == 3


def test_an_empty_rules_table_ends_ai_service(release: Release, upgraded: Database) -> None:
    upgraded.run("DELETE FROM automation_rules")
    service = release.api(wait=False).service
    assert service.wait() == 3
    assert "invalid input value for enum automationtype" in service.text


def test_metadata_names_every_label(release: Release) -> None:
    service = release.start("python", "-c", METADATA)
    assert service.wait() == 0
    lines = {line.split()[0]: line.split()[1:] for line in service.text.splitlines()}
    assert len(lines) == 6
    assert len(lines["automationtype"]) == 19 and "AGENT_WORKFLOW" in lines["automationtype"]
