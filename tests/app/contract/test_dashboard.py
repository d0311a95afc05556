"""The dashboard as Next.js standalone serves it (application.md, "HOSTNAME")."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import Service, free_port, port_open, wait_for
from pods import Pod

SOURCE = Path(__file__).parent.parent / "dashboard"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The dashboard of release 1.0.0, built for an API URL."""
    return build(tmp_path, "1.0.0")


def build(folder: Path, version: str) -> Path:
    for name in ("build.js", "server.js"):
        shutil.copy(SOURCE / name, folder)
    env = {**os.environ, "NEXT_PUBLIC_API_URL": "https://api.example"}
    subprocess.run(["node", "build.js", version], cwd=folder, env=env, check=True, timeout=20)
    return folder


def start(folder: Path, port: int, **env: str) -> Service:
    environment = {"PATH": os.environ["PATH"], "PORT": str(port), **env}
    return Service(["node", "server.js"], folder / "log", folder, environment)


def own_address() -> str | None:
    """An address of this machine besides loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return None


@pytest.fixture(params=[{}, {"HOSTNAME": "0.0.0.0"}], ids=["unset", "all"])
def everywhere(request: pytest.FixtureRequest, built: Path) -> Iterator[tuple[Service, int]]:
    port = free_port()
    with start(built, port, **request.param) as service:
        wait_for(lambda: port_open(port))
        yield service, port


def test_listens_everywhere_and_serves_a_static_page(everywhere: tuple[Service, int]) -> None:
    service, port = everywhere
    for host in filter(None, ("127.0.0.1", own_address())):
        answer = httpx.get(f"http://{host}:{port}/")
        # The bundle has the API's URL and no key.
        assert answer.status_code == 200 and '"apiUrl":"https://api.example"' in answer.text
        assert "API-Key" not in answer.text.replace("no X-API-Key", "")
    assert httpx.get(f"http://127.0.0.1:{port}/other").status_code == 404
    assert service.stop(5) == 0


def test_the_pods_name_is_only_the_pods_address(built: Path) -> None:
    port = free_port()
    with start(built, port, HOSTNAME="127.0.0.2") as service:
        wait_for(lambda: "Ready" in service.text)
        assert httpx.get(f"http://127.0.0.2:{port}/").status_code == 200
        assert not port_open(port)


def test_the_operators_pod_listens_everywhere_whatever_the_runtime_says(built: Path) -> None:
    """The runtime sets HOSTNAME to the pod's name; what the pod's template says comes on top."""
    runtime = {"HOSTNAME": "odoo-ai-dashboard-6f9c-x2x"}
    port = free_port()
    rendered = Pod("Deployment", "dashboard").env
    with start(built, port, **runtime) as alone:
        assert alone.wait() == 1
    with start(built, port, **runtime | rendered | {"PORT": str(port)}) as service:
        wait_for(lambda: port_open(port))
        for host in filter(None, ("127.0.0.1", own_address())):
            assert httpx.get(f"http://{host}:{port}/").status_code == 200
        assert service.stop(5) == 0


def test_the_url_of_the_api_is_the_builds(built: Path) -> None:
    port = free_port()
    with start(built, port, NEXT_PUBLIC_API_URL="https://other.example"):
        wait_for(lambda: port_open(port))
        page = httpx.get(f"http://127.0.0.1:{port}/").text
    assert "https://api.example" in page and "https://other.example" not in page


def test_a_name_that_does_not_resolve_ends_it(built: Path) -> None:
    with start(built, free_port(), HOSTNAME="no-such-host.invalid") as service:
        assert service.wait() == 1
        assert "ENOTFOUND" in service.text or "EAI_AGAIN" in service.text


def test_the_broken_release_ends(tmp_path: Path) -> None:
    folder = build(tmp_path, "1.2.0-broken-dashboard")
    with start(folder, free_port()) as service:
        assert service.wait() == 1
