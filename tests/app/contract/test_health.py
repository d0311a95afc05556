"""`GET /health` in every state (application.md, "Health")."""

import threading
import time

import httpx
import pytest
from websockets.sync.client import connect

from harness import Api, Release, Stub, free_port

HEALTHY = {
    "status": "healthy",
    "odoo_connected": True,
    "redis_connected": True,
    "db_connected": True,
    "version": "1.0.0",
}


def timed(api: Api) -> tuple[dict[str, object], float]:
    started = time.monotonic()
    answer = api.http.get("/health")
    assert answer.status_code == 200
    return answer.json(), time.monotonic() - started


def test_all_up_then_each_away(release: Release, own_stub: Stub) -> None:
    api = release.api(ODOO_URL=own_stub.url)
    assert timed(api)[0] == HEALTHY
    assert api.http.head("/health").status_code == 405
    for path in ("/", "/ready", "/metrics"):
        assert api.http.get(path).status_code == 404

    # The tables and the labels are not looked at.
    release.database.run("DROP TABLE automation_rules")
    assert timed(api)[0] == HEALTHY

    admin = type(release.database)(release.database.port, "postgres")
    name = release.database.name
    admin.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    admin.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    body, seconds = timed(api)
    assert body == HEALTHY | {"status": "degraded", "db_connected": False} and seconds < 1

    own_stub.mode("refuse")
    body, seconds = timed(api)
    assert body["odoo_connected"] is False and seconds < 1


def test_redis_refused(release: Release) -> None:
    api = release.api(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    body, seconds = timed(api)
    assert body == HEALTHY | {"status": "degraded", "redis_connected": False} and seconds < 1


def test_a_refused_odoo_costs_the_first_call_three_seconds(release: Release) -> None:
    api = release.api(ODOO_URL=f"http://127.0.0.1:{free_port()}")
    body, seconds = timed(api)
    assert body == HEALTHY | {"status": "degraded", "odoo_connected": False}
    assert 2.9 < seconds < 6
    assert timed(api)[1] < 1


def test_wrong_credentials_are_healthy(release: Release, own_stub: Stub) -> None:
    own_stub.mode("deny")
    assert timed(release.api(ODOO_URL=own_stub.url))[0] == HEALTHY


def test_a_hanging_odoo_freezes_the_process(release: Release, own_stub: Stub) -> None:
    api = release.api(ODOO_URL=own_stub.url)
    assert api.http.get("/openapi.json").status_code == 200
    own_stub.mode("hang")
    threading.Thread(target=_ignored, args=(api.port,), daemon=True).start()
    time.sleep(0.5)
    with pytest.raises(httpx.TimeoutException):
        httpx.get(f"http://127.0.0.1:{api.port}/openapi.json", timeout=1.5)
    api.service.process.terminate()
    time.sleep(1.5)
    assert api.service.running


def _ignored(port: int) -> None:
    try:
        httpx.get(f"http://127.0.0.1:{port}/health", timeout=10)
    except httpx.HTTPError:
        return


def test_one_websocket_stalls_the_process_for_good(release: Release) -> None:
    api = release.api()
    assert _slowest(api) < 0.5
    with connect(f"ws://127.0.0.1:{api.port}/ws/dashboard?role=cfo", open_timeout=10) as socket:
        socket.send("ping")
        assert "pong" in socket.recv(timeout=5)
        assert _slowest(api) > 0.6
    assert _slowest(api) > 0.6
    # As PID 1 it ends with 0; elsewhere uvicorn raises the signal again.
    assert api.service.stop() in (0, -15)


def _slowest(api: Api) -> float:
    """The slowest of requests a little apart: some meet a stall, if there are any."""
    slowest = 0.0
    for _ in range(3):
        time.sleep(0.3)
        started = time.monotonic()
        assert api.http.get("/openapi.json").status_code == 200
        slowest = max(slowest, time.monotonic() - started)
    return slowest
