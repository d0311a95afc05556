"""The `errors` switch: a fixed share of requests answers 500."""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.sample.switches import number

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
