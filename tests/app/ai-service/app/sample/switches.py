"""Switches to misbehave: `SAMPLE_…` in the environment, else the release's own.

They act in ai-service; `SAMPLE_PROCESSES=worker,beat` moves start delay, crash and
memory elsewhere.
"""

import os
import threading
import time
from collections.abc import Callable

from app.database import break_engine
from app.sample.release import RELEASE

CHUNK_MIB = 32


def switch(name: str, default: str = "") -> str:
    """A switch's text; an empty variable counts as unset."""
    return os.environ.get(f"SAMPLE_{name}") or RELEASE.switches.get(name, default)


def number(name: str) -> float:
    """A switch's number, 0 where unset."""
    return float(switch(name, "0"))


def before_start(process: str) -> None:
    """Slow or hung start. It blocks, so a SIGTERM is only noticed at its end."""
    if _acts_in(process):
        time.sleep(number("START_SECONDS"))


def after_start(process: str) -> None:
    """Starts what goes wrong later."""
    if not _acts_in(process):
        return
    if switch("BREAK_DATABASE") == "1":
        break_engine()
    if number("CRASH_AFTER_SECONDS") > 0:
        _in_background(_crash)
    if number("MEMORY_MIB") > 0:
        _in_background(_hog)


def refuse_worker() -> None:
    """The worker that cannot even start, while `/health` is fine."""
    if switch("BREAK_WORKER") == "1":
        raise SystemExit("sample: this release's worker cannot start")


def fork_safe() -> bool:
    """Whether the worker's children get database connections of their own."""
    return switch("FORK_SAFE") == "1"


def _acts_in(process: str) -> bool:
    return process in switch("PROCESSES", "ai-service").split(",")


def _in_background(action: Callable[[], None]) -> None:
    threading.Thread(target=action, daemon=True).start()


def _crash() -> None:
    time.sleep(number("CRASH_AFTER_SECONDS"))
    os._exit(1)


def _hog() -> None:
    kept = []
    for _ in range(int(number("MEMORY_MIB")) // CHUNK_MIB):
        time.sleep(0.5)
        kept.append(b"x" * (CHUNK_MIB << 20))
    time.sleep(86400)
