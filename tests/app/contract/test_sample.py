"""The switches, the releases and the Odoo stub: what only the sample has."""

import json
import time
import xmlrpc.client
from pathlib import Path

import pytest

from harness import Release, Stub, wait_for

APP = Path(__file__).parent.parent
HEADS = {
    "1.0.0": "003_phase2_tables",
    "1.1.0": "004_rule_usage",
    "1.2.0-failing-migration": "005_failing",
    "1.2.0-hanging-migration": "005_hanging",
    "2.0.0": "005_breaking",
}


def test_the_list_of_versions_is_the_table() -> None:
    table = json.loads((APP / "ai-service" / "app" / "sample" / "releases.json").read_text())
    assert (APP / "versions").read_text().split() == list(table)


@pytest.mark.parametrize("version", HEADS)
def test_heads(release: Release, version: str) -> None:
    result = release.version(version).alembic("heads")
    assert result.code == 0 and f"{HEADS[version]} (head)" in result.text


def test_slow_start(release: Release) -> None:
    began = time.monotonic()
    release.api(SAMPLE_START_SECONDS="3")
    assert time.monotonic() - began > 3


def test_crash(release: Release) -> None:
    api = release.api(SAMPLE_CRASH_AFTER_SECONDS="1")
    assert api.service.wait() == 1


def test_crash_of_the_worker_only(release: Release) -> None:
    switches = {"SAMPLE_CRASH_AFTER_SECONDS": "1", "SAMPLE_PROCESSES": "worker"}
    api = release.api(**switches)
    assert release.worker(wait=False, **switches).wait() == 1
    assert api.service.running


def test_unhealthy(release: Release) -> None:
    release.bootstrap()
    api = release.version("1.2.0-unhealthy")
    assert api.alembic("upgrade", "head").code == 0
    http = api.api().http
    assert http.get("/health").json()["db_connected"] is False
    assert http.get("/openapi.json").status_code == 200
    assert http.get("/api/rules").status_code == 500


@pytest.mark.parametrize(
    ("fault", "status", "is_list"),
    [
        ("503", 503, False),
        ("garbage", 200, False),
        ("redirect", 307, False),
        ("500 PUT", 200, True),
    ],
)
def test_rules_that_misbehave(
    release: Release, tmp_path: Path, fault: str, status: int, is_list: bool
) -> None:
    file = tmp_path / "rules"
    http = release.api(SAMPLE_RULES_FILE=str(file)).http
    file.write_text(fault)
    answer = http.get("/api/rules")
    file.unlink()
    assert answer.status_code == status
    assert answer.text.startswith("[{") == is_list
    assert http.get("/api/rules").text.startswith("[{")


def test_error_rate(release: Release) -> None:
    http = release.api(SAMPLE_ERROR_PERCENT="50").http
    assert [http.get("/api/rules").status_code for _ in range(4)] == [200, 500, 200, 500]
    assert {http.get(path).status_code for path in ("/openapi.json", "/health")} == {200}


def test_memory_hog(release: Release) -> None:
    api = release.api(SAMPLE_MEMORY_MIB="64")
    status = Path(f"/proc/{api.service.process.pid}/status")

    def resident() -> int:
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) // 1024

    before = resident()
    wait_for(lambda: resident() > before + 50)


def test_broken_worker_beside_a_healthy_api(release: Release) -> None:
    switch = {"SAMPLE_BREAK_WORKER": "1"}
    api = release.api(**switch)
    assert release.worker(wait=False, **switch).wait() == 1
    assert api.http.get("/health").json()["status"] == "healthy"


def test_stub_modes(own_stub: Stub) -> None:
    login = ("odoo", "admin", "secret", {})

    def common() -> xmlrpc.client.ServerProxy:
        return xmlrpc.client.ServerProxy(f"{own_stub.url}/xmlrpc/2/common")

    records = xmlrpc.client.ServerProxy(f"{own_stub.url}/xmlrpc/2/object")
    call = ("odoo", 2, "secret", "res.partner", "search_read", [[]], {"limit": 3})
    kept = common()
    assert kept.authenticate(*login) == 2
    assert len(records.execute_kw(*call)) == 3
    own_stub.mode("deny")
    assert kept.authenticate(*login) is False
    with pytest.raises(xmlrpc.client.Fault, match="Access Denied"):
        records.execute_kw(*call)
    own_stub.mode("refuse")
    for client in (kept, common()):
        with pytest.raises(ConnectionRefusedError):
            client.version()
    own_stub.mode("normal")
    assert common().version()["server_version"] == "18.0"
    assert own_stub.stop() == 0
