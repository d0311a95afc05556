"""The operator's pods of the local sample, run as processes of this machine.

Commands, settings, probes and times come from the operator's snapshots, so a test fails when a
counter-measure is taken out of a template. What the kubelet does with them is played here.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from harness import Database, Release, Service

SNAPSHOTS = Path(__file__).parents[3] / "operator" / "tests" / "snapshots"
AGENT = "/odooai/bin/agent"
HEAD = "003_phase2_tables"


class Pod:
    """A pod of the local sample as the operator makes it."""

    def __init__(self, kind: str, component: str) -> None:
        found = sorted(SNAPSHOTS.glob(f"snapshots__{kind}-odoo-ai-{component}*.snap"))
        assert found, f"the operator makes no {kind} of {component}"
        _, _, document = found[-1].read_text().split("---\n", 2)
        self.object: dict[str, Any] = yaml.safe_load(document)
        self.spec: dict[str, Any] = self.object["spec"]["template"]["spec"]
        self.container: dict[str, Any] = self.spec["containers"][0]
        self.command: list[str] = self.container.get("command", [])

    @property
    def env(self) -> dict[str, str]:
        """Its variables without those from Secrets."""
        return {it["name"]: it["value"] for it in self.container.get("env", []) if "value" in it}

    def probe(self, kind: str) -> dict[str, Any]:
        """A probe by its name in the API."""
        return self.container[f"{kind}Probe"]

    def volume(self, path: str) -> dict[str, Any]:
        """The volume that a path is on; with the path of its mount as `mountPath`."""
        mounts = (it for it in self.container["volumeMounts"] if path.startswith(it["mountPath"]))
        mount = max(mounts, key=lambda it: len(it["mountPath"]))
        volume = next(it for it in self.spec["volumes"] if it["name"] == mount["name"])
        return {**volume, "mountPath": mount["mountPath"]}

    def service_links(self, name: str, port: int) -> dict[str, str]:
        """What the kubelet adds for a Service of the pod's namespace."""
        if not self.spec.get("enableServiceLinks", True):
            return {}
        prefix = name.upper().replace("-", "_")
        return {f"{prefix}_PORT": f"tcp://10.43.0.7:{port}", f"{prefix}_SERVICE_HOST": "10.43.0.7"}


class Node:
    """Where pods run: with the agent of this checkout, on the servers of a release."""

    def __init__(self, agent: Path, release: Release, folder: Path) -> None:
        self._agent = agent
        self._release = release
        self._folder = folder
        # PostgreSQL trusts everybody here; the agent wants a file nevertheless.
        (folder / "database-password").write_text("any")
        (folder / "redis-url").write_text(release.redis.url)

    def start(self, pod: Pod, command: list[str] | None = None, **env: str) -> Service:
        """The pod's main container; a command may differ from its own in ports and paths."""
        words = [str(self._agent) if it == AGENT else it for it in command or pod.command]
        return self._release.start(*words, **{**self._moved(pod), **env})

    def _moved(self, pod: Pod) -> dict[str, str]:
        """Its settings, pointed at the servers of this machine."""
        database: Database = self._release.database
        moved = {
            "ODOOAI_DATABASE_HOST": "127.0.0.1",
            "ODOOAI_DATABASE_PORT": str(database.port),
            "ODOOAI_DATABASE_NAME": database.name,
            "ODOOAI_DATABASE_USER": "postgres",
            "ODOOAI_DATABASE_ADMIN_PASSWORD_FILE": str(self._folder / "database-password"),
            "ODOOAI_SCHEMA_HEADS": HEAD,
            "ODOOAI_SCHEMA_KNOWN": HEAD,
            "AI_DATABASE_URL": database.url,
            "ODOO_URL": self._release.env["ODOO_URL"],
        }
        files = {
            "ODOOAI_DATABASE_PASSWORD_FILE": str(self._folder / "database-password"),
            "ODOOAI_REDIS_URL_FILE": str(self._folder / "redis-url"),
            "ODOOAI_TERMINATION_LOG": str(self._folder / "termination"),
            # Where the image's own commands are.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            # The URL comes from the file alone.
            "REDIS_URL": "",
        }
        rendered = pod.env
        return {**rendered, **{name: moved[name] for name in rendered if name in moved}, **files}


def end(service: Service, grace: float) -> int:
    """As the kubelet ends a container: SIGTERM, and after the grace SIGKILL to all of it."""
    service.process.terminate()
    last = time.monotonic() + grace
    while service.running and time.monotonic() < last:
        time.sleep(0.05)
    if service.running:
        for pid in [*descendants(service.process.pid), service.process.pid]:
            os.kill(pid, signal.SIGKILL)
    return service.wait()


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [it for child in map(int, children) for it in (child, *descendants(child))]


def probed(port: int, probe: dict[str, Any], seconds: float) -> list[float]:
    """How long answers to a probe take, each on a connection of its own; far more often than the
    kubelet asks, because rare failures would hide between its periods."""
    times = []
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        began = time.monotonic()
        answered = answers(port, probe["httpGet"]["path"], 20)
        times.append(time.monotonic() - began if answered else 20)
        time.sleep(0.05)
    return times


def failures_in_a_row(times: list[float], probe: dict[str, Any]) -> int:
    """What the kubelet compares with the probe's failureThreshold."""
    longest = failures = 0
    for seconds in times:
        failures = failures + 1 if seconds >= probe.get("timeoutSeconds", 1) else 0
        longest = max(longest, failures)
    return longest


def answers(port: int, path: str, limit: float) -> bool:
    """Whether a GET succeeds in time."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=limit)
    except httpx.HTTPError:
        return False
    return 200 <= answer.status_code < 400
