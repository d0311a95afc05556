"""Wrong answers: a fixed share of all requests, or the rules API as a file says."""

import asyncio
from pathlib import Path

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.sample.switches import number, switch

# What probes and tests ask stays well: only users see this release's errors.
EXEMPT = ("/openapi.json", "/health", "/sample/")


class ErrorRate:
    """Spreads the errors evenly, so that a test may count on the rate."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._percent = number("ERROR_PERCENT")
        self._due = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers in the application's place when an error is due."""
        if scope["type"] == "http" and not scope["path"].startswith(EXEMPT):
            self._due += self._percent / 100
            if self._due >= 1:
                self._due -= 1
                await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)
                return
        await self._app(scope, receive, send)


# While it is there: what goes wrong, and for which methods (all, where it names none).
RULES = Path(switch("RULES_FILE", "/tmp/sample-rules"))
# Longer than anybody waits.
FOR_EVER = 60.0


class RulesFault:
    """The rules API of a sick application, or of another one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers in the application's place as long as the file says so."""
        fault = ""
        if scope["type"] == "http" and scope["path"].startswith("/api/rules") and RULES.exists():
            fault, *methods = RULES.read_text().split()
            if methods and scope["method"] not in methods:
                fault = ""
        if fault == "slow":
            await asyncio.sleep(FOR_EVER)
        if fault == "lost":
            await self._app(scope, receive, _nowhere)
            await asyncio.sleep(FOR_EVER)
        if fault and fault != "slow":
            await _answer(fault)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _nowhere(_: Message) -> None:
    """Nobody hears the answer."""


def _answer(fault: str) -> Response:
    if fault == "garbage":
        return HTMLResponse("<html><body>It works!</body></html>")
    if fault == "redirect":
        return RedirectResponse("http://192.0.2.1/login")
    return PlainTextResponse("Internal Server Error", 500 if fault == "lost" else int(fault))
