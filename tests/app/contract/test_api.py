"""Rules, audit log and triggers (application.md, "Rules API")."""

from collections.abc import Iterator

import pytest

from conftest import ReleaseFolders
from harness import Api, Database, Redis, Release, Stub

RULE = {"name": "n", "automation_type": "crm", "action_name": "a"}
DENIED = {"detail": "Invalid or missing API key"}


@pytest.fixture(scope="module")
def running(
    postgres: int, releases: ReleaseFolders, redis: Redis, stub: Stub
) -> Iterator[tuple[Api, Database]]:
    """One ai-service for the whole file."""
    Database(postgres, "postgres").run("CREATE DATABASE api")
    database = Database(postgres, "api")
    with Release(releases.path, "1.0.0", database, redis.next(), stub.url) as release:
        yield release.api(), database


@pytest.fixture
def api(running: tuple[Api, Database]) -> Api:
    return running[0]


@pytest.fixture
def db(running: tuple[Api, Database]) -> Database:
    return running[1]


@pytest.mark.parametrize(
    "headers", [{"X-API-Key": ""}, {"X-API-Key": "no"}, {"Authorization": "Bearer contract-key"}]
)
def test_without_the_key_401(api: Api, headers: dict[str, str]) -> None:
    sent = {"X-API-Key": ""} | headers
    answer = api.http.get("/api/rules", headers=sent)
    assert (answer.status_code, answer.json()) == (401, DENIED)
    # The key comes before the body.
    assert api.http.put("/api/rules/1", json={}, headers=sent).status_code == 401


def test_open_paths(api: Api) -> None:
    for path in ("/health", "/docs", "/openapi.json"):
        assert api.http.get(path, headers={"X-API-Key": ""}).status_code == 200


def test_list_is_a_bare_array_and_an_updated_row_moves_to_the_end(api: Api) -> None:
    rules = api.http.get("/api/rules").json()
    first = rules[0]
    assert set(first) == {
        "name",
        "automation_type",
        "action_name",
        "enabled",
        "confidence_threshold",
        "auto_approve",
        "auto_approve_threshold",
        "config",
        "id",
        "created_at",
        "updated_at",
    }
    assert first["automation_type"] == "accounting"
    assert not first["updated_at"].endswith("Z") and "+" not in first["updated_at"]
    changed = first | {"confidence_threshold": 0.5}
    api.http.put(f"/api/rules/{first['id']}", json=changed).raise_for_status()
    assert api.http.get("/api/rules").json()[-1]["id"] == first["id"]


def test_post_answers_200_with_defaults(api: Api) -> None:
    answer = api.http.post("/api/rules", json=RULE | {"unknown": 1})
    assert answer.status_code == 200
    stored = answer.json()
    assert (stored["enabled"], stored["confidence_threshold"]) == (True, 0.85)
    assert (stored["auto_approve"], stored["auto_approve_threshold"]) == (False, 0.95)
    assert stored["config"] == {} and "unknown" not in stored
    # Neither duplicates nor ranges are checked.
    assert api.http.post("/api/rules", json=RULE | {"confidence_threshold": 9}).status_code == 200


@pytest.mark.parametrize("bad", [{"automation_type": "nonsense"}, {"name": "n" * 256}])
def test_what_the_database_refuses_is_a_plain_500(api: Api, bad: dict[str, str]) -> None:
    answer = api.http.post("/api/rules", json=RULE | bad)
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert answer.headers["content-type"].startswith("text/plain")


def test_put_replaces_the_whole(api: Api) -> None:
    body = RULE | {"enabled": False, "config": {"owner": {"any": ["json"]}}}
    rule = api.http.post("/api/rules", json=body).json()
    url = f"/api/rules/{rule['id']}"
    assert rule["enabled"] is False and rule["config"] == body["config"]
    answer = api.http.put(url, json={"enabled": False})
    assert answer.status_code == 422
    missing = {error["loc"][-1] for error in answer.json()["detail"]}
    assert missing == {"name", "automation_type", "action_name"}
    replaced = api.http.put(url, json=RULE).json()
    assert replaced["enabled"] is True and replaced["config"] == {}


def test_unknown_ids_and_methods(api: Api) -> None:
    answer = api.http.put("/api/rules/99999", json=RULE)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Rule not found"})
    assert api.http.get("/api/rules/1").status_code == 405


def test_delete(api: Api) -> None:
    rule = api.http.post("/api/rules", json=RULE).json()
    answer = api.http.delete(f"/api/rules/{rule['id']}")
    assert (answer.status_code, answer.json()) == (200, {"status": "deleted"})
    assert api.http.delete(f"/api/rules/{rule['id']}").status_code == 404


def test_audit_log(api: Api, db: Database) -> None:
    db.run("DELETE FROM audit_logs")
    for minute, status, tokens in ((1, "EXECUTED", 5), (3, "PENDING", 0), (2, "FAILED", 0)):
        db.run(
            "INSERT INTO audit_logs (timestamp, automation_type, action_name, odoo_model, status,"
            f" tokens_used) VALUES ('2026-01-01 00:0{minute}', 'CRM', 'a', 'm', '{status}',"
            f" {tokens})"
        )
    rows = api.http.get("/api/audit-logs").json()
    assert [row["status"] for row in rows] == ["pending", "failed", "executed"]
    page = api.http.get("/api/audit-logs", params={"limit": 1, "offset": 1}).json()
    assert [row["status"] for row in page] == ["failed"]
    query = {"status": "executed", "automation_type": "crm"}
    assert len(api.http.get("/api/audit-logs", params=query).json()) == 1
    for bad in ({"status": "nonsense"}, {"automation_type": "nonsense"}, {"limit": -1}):
        assert api.http.get("/api/audit-logs", params=bad).status_code == 500
    # One of three: the pending row counts as a failure.
    stats = api.http.get("/api/stats").json()
    assert stats["success_rate"] == 33.3 and stats["by_type"] == {"crm": 3}
    db.run("UPDATE audit_logs SET tokens_used = NULL WHERE status = 'FAILED'")
    assert api.http.get("/api/audit-logs").status_code == 500
    db.run("DELETE FROM audit_logs")


def test_trigger_always_queues(api: Api) -> None:
    for path in ("purchase/match_bills", "nonsense/nonsense"):
        answer = api.http.post(f"/api/trigger/{path}?model=a.b&record_id=1")
        assert answer.status_code == 200 and answer.json()["status"] == "queued"


def test_an_old_signature_or_none_on_a_webhook(api: Api) -> None:
    good = b'{"event_type": "write", "model": "crm.lead", "record_id": 1}'
    headers = {"Content-Type": "application/json"}
    assert api.http.post("/webhooks/odoo", content=good, headers=headers).status_code == 401
    headers["X-Webhook-Signature"] = "00" * 32
    assert api.http.post("/webhooks/odoo", content=good, headers=headers).status_code == 401
    # The body is looked at before the signature.
    bad = b'{"event_type": "write"}'
    answer = api.http.post("/webhooks/odoo", content=bad, headers=headers)
    assert answer.status_code == 422
    answer = api.signed("/webhooks/odoo", good)
    assert answer.json() == {"status": "queued", "event_id": answer.json()["event_id"]}
    answer = api.signed("/webhooks/odoo/batch", b"[" + good + b"," + good + b"]")
    assert answer.json()["status"] == "queued" and len(answer.json()["event_ids"]) == 2


def test_the_sample_tells_its_true_version(api: Api) -> None:
    assert api.http.get("/sample/version").json()["sample_version"] == "1.0.0"
    assert "/sample/version" not in api.http.get("/openapi.json").json()["paths"]
