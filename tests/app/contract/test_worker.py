"""Queue and worker (application.md, "Running" and "Stopping")."""

import json
import threading
import time

import httpx
import pytest

from harness import Api, Release, Service, free_port, wait_for

PENDING = {"confidence": 0.9}


@pytest.fixture
def pair(release: Release) -> tuple[Api, Service]:
    """ai-service and a worker, as it is started today: without the queue `celery`."""
    api = release.api()
    return api, release.worker(SAMPLE_FORK_SAFE="1")


def rows(api: Api, count: int) -> list[dict[str, object]]:
    """The audit log, once it has that many rows."""

    def enough() -> list[dict[str, object]] | None:
        found = api.http.get("/api/audit-logs").json()
        return found if len(found) >= count else None

    return wait_for(enough)


def test_an_event_passes_the_gate_of_its_type(release: Release, pair: tuple[Api, Service]) -> None:
    api, _ = pair
    release.database.run(
        "UPDATE automation_rules SET enabled = false WHERE automation_type = 'DEDUPLICATION'"
        " AND action_name <> 'weekly_scan'"
    )
    api.webhook("crm.lead")
    row = rows(api, 1)[0]
    # Any enabled rule of the type will do, whatever its action.
    assert (row["automation_type"], row["status"]) == ("deduplication", "executed")
    release.database.run("UPDATE automation_rules SET enabled = false")
    event = api.webhook("crm.lead")
    processed = f"SELECT processed FROM webhook_events WHERE id = {event}"
    wait_for(lambda: release.database.value(processed))
    assert len(rows(api, 1)) == 1


def test_children_share_a_connection(release: Release) -> None:
    """In a first burst some tasks fail and are tried again after a minute."""
    api = release.api()
    worker = release.worker()
    event = b'{"event_type": "write", "model": "crm.lead", "record_id": 1, "values": {}}'
    api.signed("/webhooks/odoo/batch", b"[" + b",".join([event] * 40) + b"]")
    wait_for(lambda: "Retry in 60s" in worker.text)


def test_one_child_shares_with_nobody(release: Release) -> None:
    """Several read each other's answers, and now and then take a rule for enabled."""
    api = release.api()
    release.database.run("UPDATE automation_rules SET enabled = false")
    for _ in range(10):
        for model in ("sale.order", "account.move", "stock.picking", "purchase.order"):
            api.webhook(model)
    # They are queued and committed before the worker is there: it drops none.
    worker = release.worker(children=1)
    done = "SELECT count(*) FROM webhook_events WHERE processed"
    wait_for(lambda: release.database.value(done) == 40)
    assert api.http.get("/api/audit-logs").json() == []
    assert "Retry in" not in worker.text


def test_a_task_that_comes_before_its_row_is_dropped(release: Release) -> None:
    """The application queues an event before it commits the row."""
    code = (
        "from app.models.audit import init_db; init_db();"
        "from app.tasks.celery_tasks import process_webhook_event as it; print(it.apply([1]).state)"
    )
    task = release.start("python", "-c", code)
    assert task.wait() == 0 and task.text.split()[-1] == "SUCCESS", task.text
    assert release.database.value("SELECT count(*) FROM webhook_events") == 0


def test_triggers(pair: tuple[Api, Service]) -> None:
    api, _ = pair
    for path in ("purchase/match_bills", "purchase/select_vendor", "sales/optimize_pricing"):
        api.http.post(f"/api/trigger/{path}?model=purchase.order&record_id=1").raise_for_status()
    found = {row["action_name"]: row["status"] for row in rows(api, 2)}
    assert found == {"match_bills": "executed", "select_vendor": "failed"}


def test_approved_actions_wait_for_the_queue_celery(
    release: Release, pair: tuple[Api, Service]
) -> None:
    api, worker = pair
    api.webhook(**PENDING)
    row = rows(api, 1)[0]
    assert row["status"] == "pending"
    # The Slack trap: no signature, no key.
    answer = slack(api, row["id"])
    assert answer.status_code == 200 and answer.json() == {"text": "Approved"}
    time.sleep(1)
    assert release.redis.command("LLEN", "celery") == "1"
    assert rows(api, 1)[0]["status"] == "approved"
    assert worker.stop() == 0
    release.worker(queues="webhooks,automations,scheduled,celery")
    wait_for(lambda: rows(api, 1)[0]["status"] == "executed")


def slack(api: Api, row: object, **headers: str) -> httpx.Response:
    payload = {"actions": [{"action_id": "approve_action", "value": str(row)}]}
    form = {"payload": json.dumps(payload)}
    return api.http.post("/api/slack/interactions", data=form, headers={"X-API-Key": "", **headers})


def test_slack_refuses_only_a_wrong_signature(release: Release) -> None:
    api = release.api(SLACK_SIGNING_SECRET="s")
    wrong = {"X-Slack-Signature": "v0=00", "X-Slack-Request-Timestamp": str(int(time.time()))}
    assert slack(api, 1, **wrong).status_code == 401
    assert slack(api, 1).json() == {"text": "Action #1 not found"}


def test_approve_needs_the_key(release: Release) -> None:
    api = release.api()
    body = {"audit_log_id": 1, "approved": True}
    assert api.http.post("/api/approve", json=body).status_code == 404
    assert api.http.post("/api/approve", json=body, headers={"X-API-Key": ""}).status_code == 401


def test_a_worker_answers_a_ping_and_finishes_its_task_on_sigterm(release: Release) -> None:
    api = release.api()
    worker = release.worker(SAMPLE_FORK_SAFE="1")
    code = (
        "from app.tasks.celery_app import celery_app as c;"
        "print(c.control.ping(timeout=1), {k: len(v) for k, v in"
        " c.control.inspect(timeout=1).active_queues().items()})"
    )
    ping = release.start("python", "-c", code)
    assert ping.wait() == 0
    assert "@contract': {'ok': 'pong'}" in ping.text and ": 3}" in ping.text

    event = api.webhook(sleep=2.5)
    started = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{release.database.name}'"
    started += " AND state = 'idle in transaction'"
    wait_for(lambda: release.database.value(started))
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began > 1
    processed = f"SELECT processed FROM webhook_events WHERE id = {event}"
    assert release.database.value(processed) is True


def test_limits_and_acknowledgement(release: Release) -> None:
    code = (
        "from app.tasks.celery_app import celery_app as c; x = c.conf;"
        "print(x.task_acks_late, x.worker_prefetch_multiplier,"
        " x.task_soft_time_limit, x.task_time_limit)"
    )
    service = release.start("python", "-c", code)
    assert service.wait() == 0
    assert service.text.split() == ["True", "1", "300", "600"]


def test_ai_service_finishes_requests_and_refuses_new_ones(release: Release) -> None:
    api = release.api()
    answers: list[int] = []

    def slow() -> None:
        answer = httpx.get(f"http://127.0.0.1:{api.port}/sample/sleep?seconds=2", timeout=10)
        answers.append(answer.status_code)

    request = threading.Thread(target=slow)
    request.start()
    time.sleep(0.5)
    api.service.process.terminate()
    time.sleep(0.5)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{api.port}/openapi.json", timeout=5)
    request.join(10)
    assert answers == [200]
    # As PID 1 it ends with 0; elsewhere uvicorn raises the signal again.
    assert api.service.wait() in (0, -15)


def test_publishing_without_redis_blocks_and_fails(release: Release) -> None:
    api = release.api(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    api.http.timeout = 40
    began = time.monotonic()
    body = b'{"event_type": "write", "model": "crm.lead", "record_id": 1}'
    answer = api.signed("/webhooks/odoo", body)
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert time.monotonic() - began > 15
