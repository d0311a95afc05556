"""Rules: list, create, replace, delete. No GET by id, no range or name checks."""

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import get_db
from app.models.audit import AutomationRule
from app.schemas import RuleIn, RuleOut
from app.security import require_api_key

router = APIRouter(prefix="/api/rules", dependencies=[Depends(require_api_key)])


@router.get("")
async def list_rules(session: Session = Depends(get_db)) -> list[RuleOut]:
    """Unpaged and unsorted: PostgreSQL moves an updated row."""
    return [RuleOut.model_validate(rule) for rule in session.scalars(select(AutomationRule))]


@router.post("")
async def create_rule(body: RuleIn, session: Session = Depends(get_db)) -> RuleOut:
    """200, not 201. An unknown type or a name over 255 fails in the database: 500."""
    rule = AutomationRule(**body.model_dump())
    session.add(rule)
    return _stored(session, rule)


@router.put("/{rule_id}")
async def replace_rule(rule_id: int, body: RuleIn, session: Session = Depends(get_db)) -> RuleOut:
    """Replaces every field, the omitted ones with their defaults."""
    rule = _found(session, rule_id)
    for field, value in body.model_dump().items():
        setattr(rule, field, value)
    return _stored(session, rule)


@router.delete("/{rule_id}")
async def delete_rule(rule_id: int, session: Session = Depends(get_db)) -> dict[str, str]:
    """An emptied table is seeded again at the next start."""
    session.delete(_found(session, rule_id))
    return {"status": "deleted"}


def _found(session: Session, rule_id: int) -> AutomationRule:
    rule = session.get(AutomationRule, rule_id)
    if rule is None:
        raise HTTPException(status_code=404, detail="Rule not found")
    return rule


def _stored(session: Session, rule: AutomationRule) -> RuleOut:
    session.flush()
    session.refresh(rule)
    return RuleOut.model_validate(rule)
