"""Button clicks in Slack.

Trap: only a signature that is present is checked, so an unsigned approval passes.
"""

import hashlib
import hmac
import json
import time
from urllib.parse import parse_qs

from fastapi import APIRouter, HTTPException, Request

from app.config import get_settings
from app.database import session_scope
from app.models.audit import AuditLog
from app.models.base import ActionStatus
from app.routers.audit import decide

router = APIRouter(prefix="/api/slack")

DECISIONS = {"approve_action": True, "reject_action": False}
MAX_AGE_SECONDS = 300


@router.post("/interactions")
async def interactions(request: Request) -> dict[str, str]:
    """Approves or rejects a pending audit row."""
    raw = await request.body()
    signature = request.headers.get("X-Slack-Signature", "")
    stamp = request.headers.get("X-Slack-Request-Timestamp", "")
    if signature and not _signed(raw, stamp, signature):
        raise HTTPException(status_code=401, detail="Invalid Slack signature")
    try:
        payload = json.loads(parse_qs(raw.decode())["payload"][0])
    except (KeyError, ValueError):
        raise HTTPException(status_code=400, detail="Missing payload") from None
    user = payload.get("user", {}).get("username", "slack_user")
    for action in payload.get("actions", []):
        if action.get("action_id") in DECISIONS:
            return {"text": _decide(int(action["value"]), DECISIONS[action["action_id"]], user)}
    return {"text": "Action received"}


def _decide(audit_log_id: int, approved: bool, user: str) -> str:
    with session_scope() as session:
        row = session.get(AuditLog, audit_log_id)
        if row is None:
            return f"Action #{audit_log_id} not found"
        if row.status != ActionStatus.PENDING:
            return f"Action already {row.status.value}"
        return decide(row, approved, user).capitalize()


def _signed(raw: bytes, stamp: str, signature: str) -> bool:
    secret = get_settings().slack_signing_secret
    if not secret or not stamp.isdigit() or abs(time.time() - int(stamp)) > MAX_AGE_SECONDS:
        return False
    base = b"v0:" + stamp.encode() + b":" + raw
    expected = "v0=" + hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()
    return hmac.compare_digest(signature.encode(), expected.encode())
