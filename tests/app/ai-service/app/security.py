"""Who may call: the API key and the webhook signature."""

import hashlib
import hmac

from fastapi import Header, HTTPException, Request

from app.config import get_settings


async def require_api_key(x_api_key: str | None = Header(default=None)) -> None:
    """401 (never 403) without the key; an empty AI_SECRET_KEY locks everyone out."""
    expected = get_settings().ai_secret_key
    if not expected or x_api_key is None or not _equal(x_api_key, expected):
        raise HTTPException(status_code=401, detail="Invalid or missing API key")


async def verify_webhook(request: Request) -> None:
    """Lower-case hex HMAC-SHA256 of the raw body. Called in the handler: 422 comes first."""
    given = request.headers.get("X-Webhook-Signature")
    if not given:
        raise HTTPException(status_code=401, detail="Missing webhook signature")
    secret = get_settings().webhook_secret.encode()
    expected = hmac.new(secret, await request.body(), hashlib.sha256).hexdigest()
    if not _equal(given, expected):
        raise HTTPException(status_code=401, detail="Invalid webhook signature")


def _equal(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
