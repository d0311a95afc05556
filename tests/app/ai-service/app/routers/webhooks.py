"""Events from Odoo.

Trap: an event is queued before its row is committed, so a quick worker finds
nothing and drops it.
"""

from typing import Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy.orm import Session

from app.database import get_db
from app.models.audit import WebhookEvent
from app.schemas import Webhook
from app.security import verify_webhook
from app.tasks.celery_tasks import process_webhook_event

router = APIRouter(prefix="/webhooks")


@router.post("/odoo")
async def receive(
    body: Webhook, request: Request, session: Session = Depends(get_db)
) -> dict[str, Any]:
    """One event."""
    await verify_webhook(request)
    event_id = _stored(session, body)
    process_webhook_event.delay(event_id)
    return {"status": "queued", "event_id": event_id}


@router.post("/odoo/batch")
async def receive_batch(
    body: list[Webhook], request: Request, session: Session = Depends(get_db)
) -> dict[str, Any]:
    """Several events under one signature."""
    await verify_webhook(request)
    event_ids = [_stored(session, event) for event in body]
    for event_id in event_ids:
        process_webhook_event.delay(event_id)
    return {"status": "queued", "event_ids": event_ids}


def _stored(session: Session, body: Webhook) -> int:
    event = WebhookEvent(
        event_type=body.event_type,
        odoo_model=body.model,
        odoo_record_id=body.record_id,
        payload={
            "values": body.values,
            "old_values": body.old_values,
            "user_id": body.user_id,
        },
    )
    session.add(event)
    session.flush()
    return event.id
