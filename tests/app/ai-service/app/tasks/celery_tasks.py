"""The tasks. Events and triggers are tried again after 60 s, three times."""

from typing import Any

from celery import Task
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import session_scope
from app.models.audit import AuditLog, AutomationRule, WebhookEvent
from app.models.base import ActionStatus, utcnow
from app.tasks import handlers
from app.tasks.celery_app import celery_app

RETRY_SECONDS = 60


@celery_app.task(bind=True, max_retries=3)
def process_webhook_event(self: Task, event_id: int) -> None:
    """Handles one event. An id without a row (not committed yet) is dropped."""
    try:
        with session_scope() as session:
            event = session.get(WebhookEvent, event_id)
            if event is None or event.processed:
                return
            event.processing_started_at = utcnow()
            session.flush()
            automation_type = handlers.type_of(event.odoo_model)
            if automation_type and _enabled(session, automation_type):
                values = (event.payload or {}).get("values", {})
                outcome = handlers.handle_event(event.event_type, values)
                session.add(_row(automation_type, outcome, event.odoo_model, event.odoo_record_id))
            event.processed = True
            event.processing_completed_at = utcnow()
    except Exception as error:
        raise self.retry(exc=error, countdown=RETRY_SECONDS) from error


@celery_app.task(bind=True, max_retries=3)
def run_automation(self: Task, automation_type: str, action: str, model: str, record: int) -> None:
    """Runs a trigger, if a rule of that type *and* action is enabled."""
    try:
        with session_scope() as session:
            if not handlers.has_handler(automation_type):
                return
            if not _enabled(session, automation_type, action):
                return
            outcome = handlers.run_action(automation_type, action, record)
            session.add(_row(automation_type, outcome, model, record))
    except Exception as error:
        raise self.retry(exc=error, countdown=RETRY_SECONDS) from error


@celery_app.task
def run_scheduled(automation_type: str, action: str) -> None:
    """A nightly task: it writes `executed` also when it found nothing."""
    with session_scope() as session:
        if _enabled(session, automation_type, action):
            outcome = handlers.Outcome(action, ActionStatus.EXECUTED, 1.0, "nothing found")
            session.add(_row(automation_type, outcome, "sample.scheduled", 0))


@celery_app.task
def execute_approved_action(audit_log_id: int) -> None:
    """Executes what a person approved. It has no route: queue `celery`."""
    with session_scope() as session:
        row = session.get(AuditLog, audit_log_id)
        if row is not None and row.status == ActionStatus.APPROVED:
            row.status = ActionStatus.EXECUTED
            row.executed_at = utcnow()


def _enabled(session: Session, automation_type: str, action: str | None = None) -> bool:
    query = select(AutomationRule.id).where(
        AutomationRule.automation_type == automation_type, AutomationRule.enabled.is_(True)
    )
    if action is not None:
        query = query.where(AutomationRule.action_name == action)
    return session.scalars(query.limit(1)).first() is not None


def _row(kind: str, outcome: handlers.Outcome, model: str, record_id: Any) -> AuditLog:
    done = outcome.status == ActionStatus.EXECUTED
    return AuditLog(
        automation_type=kind,
        action_name=outcome.action,
        odoo_model=model,
        odoo_record_id=record_id,
        status=outcome.status,
        confidence=outcome.confidence,
        ai_reasoning=outcome.reasoning,
        output_data=outcome.output,
        executed_at=utcnow() if done else None,
    )
