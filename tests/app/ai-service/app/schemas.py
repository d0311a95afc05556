"""Requests and answers of the API."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class Health(BaseModel):
    """`version` is a constant: it says nothing about the release."""

    status: str
    odoo_connected: bool
    redis_connected: bool
    db_connected: bool
    version: str = "1.0.0"


class RuleIn(BaseModel):
    """Trap: a PUT takes the same whole body, so an omitted `enabled` switches on."""

    name: str
    automation_type: str
    action_name: str
    enabled: bool = True
    confidence_threshold: float = 0.85
    auto_approve: bool = False
    auto_approve_threshold: float = 0.95
    config: dict[str, Any] = {}


class RuleOut(RuleIn):
    """A stored rule."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: datetime
    updated_at: datetime


class AuditOut(BaseModel):
    """Trap: a NULL in `tokens_used` is refused, and the whole list is a 500."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    timestamp: datetime
    automation_type: str
    action_name: str
    odoo_model: str
    odoo_record_id: int | None
    status: str
    confidence: float | None
    ai_reasoning: str | None
    tokens_used: int


class Approval(BaseModel):
    """A person's answer to a pending audit row."""

    audit_log_id: int
    approved: bool
    approved_by: str = "admin"


class Webhook(BaseModel):
    """An event of Odoo's module."""

    event_type: str
    model: str
    record_id: int
    values: dict[str, Any] = {}
    old_values: dict[str, Any] = {}
    timestamp: str | None = None
    user_id: int | None = None
