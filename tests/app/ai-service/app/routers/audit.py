"""Audit log, statistics, approvals and manual triggers."""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.database import get_db
from app.models.audit import AuditLog
from app.models.base import ActionStatus, utcnow
from app.schemas import Approval, AuditOut
from app.security import require_api_key
from app.tasks.celery_tasks import execute_approved_action, run_automation

router = APIRouter(prefix="/api", dependencies=[Depends(require_api_key)])


@router.get("/audit-logs")
async def audit_logs(
    limit: int = 50,
    offset: int = 0,
    status: str | None = None,
    automation_type: str | None = None,
    session: Session = Depends(get_db),
) -> list[AuditOut]:
    """Newest first, no total. Unknown values and a negative limit are a 500."""
    query = select(AuditLog).order_by(AuditLog.timestamp.desc())
    if status:
        query = query.where(AuditLog.status == status)
    if automation_type:
        query = query.where(AuditLog.automation_type == automation_type)
    rows = session.scalars(query.offset(offset).limit(limit))
    return [AuditOut.model_validate(row) for row in rows]


@router.get("/stats")
async def stats(session: Session = Depends(get_db)) -> dict[str, Any]:
    """All-time figures; the success rate counts pending rows as failures."""
    midnight = utcnow().replace(hour=0, minute=0, second=0, microsecond=0)
    by_status = dict(_counts(session, AuditLog.status))
    total = sum(by_status.values())
    executed = by_status.get(ActionStatus.EXECUTED, 0)
    today = session.execute(
        select(func.count(), func.coalesce(func.sum(AuditLog.tokens_used), 0)).where(
            AuditLog.timestamp >= midnight
        )
    ).one()
    return {
        "total_automations": total,
        "automations_today": today[0],
        "pending_approvals": by_status.get(ActionStatus.PENDING, 0),
        "success_rate": round(executed / total * 100, 1) if total else 0.0,
        "tokens_used_today": today[1],
        "by_type": dict(_counts(session, AuditLog.automation_type)),
        "time_saved_minutes": executed * 2.0,
    }


@router.post("/approve")
async def approve(body: Approval, session: Session = Depends(get_db)) -> dict[str, str]:
    """Queues the approved action."""
    row = session.get(AuditLog, body.audit_log_id)
    if row is None:
        raise HTTPException(status_code=404, detail="Audit log not found")
    if row.status != ActionStatus.PENDING:
        raise HTTPException(status_code=400, detail="Action is not pending")
    return {"status": decide(row, body.approved, body.approved_by)}


@router.post("/trigger/{automation_type}/{action}")
async def trigger(
    automation_type: str, action: str, model: str = "", record_id: int = 0
) -> dict[str, str]:
    """200 `queued` whatever the type and action are."""
    run_automation.delay(automation_type, action, model, record_id)
    return {"status": "queued", "automation_type": automation_type, "action": action}


def decide(row: AuditLog, approved: bool, by: str) -> str:
    """Settles a pending row. Trap: the task has no route, its queue no consumer."""
    row.status = ActionStatus.APPROVED if approved else ActionStatus.REJECTED
    row.approved_by = by
    if approved:
        execute_approved_action.delay(row.id)
    return row.status.value


def _counts(session: Session, column: Any) -> list[tuple[Any, int]]:
    rows = session.execute(select(column, func.count()).group_by(column))
    return [(key, count) for key, count in rows]
