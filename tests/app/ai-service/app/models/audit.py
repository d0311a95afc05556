"""The three released tables, `Base` with all others, and `init_db()`."""

from sqlalchemy import JSON, Boolean, Column, DateTime, Enum, Float, Index, Integer, String, Text

from app.database import get_engine
from app.models import phase1, phase2  # noqa: F401  Base.metadata must be complete
from app.models.base import ActionStatus, AutomationType, Base, utcnow
from app.sample.release import RELEASE

if RELEASE.has("004_rule_usage"):
    from app.models import later  # noqa: F401


class AuditLog(Base):
    """One decision of the automation."""

    __tablename__ = "audit_logs"

    id = Column(Integer, primary_key=True)
    timestamp = Column(DateTime, default=utcnow, nullable=False)
    automation_type = Column(Enum(AutomationType), nullable=False)
    action_name = Column(String(255), nullable=False)
    odoo_model = Column(String(255), nullable=False)
    odoo_record_id = Column(Integer)
    status = Column(Enum(ActionStatus), default=ActionStatus.PENDING)
    confidence = Column(Float)
    ai_reasoning = Column(Text)
    input_data = Column(JSON)
    output_data = Column(JSON)
    error_message = Column(Text)
    executed_at = Column(DateTime)
    approved_by = Column(String(255))
    tokens_used = Column(Integer, default=0)
    if RELEASE.has("004_rule_usage"):
        __table_args__ = (Index("idx_audit_logs_timestamp", "timestamp"),)


class AutomationRule(Base):
    """A feature flag: `enabled` is the only field that the code reads."""

    __tablename__ = "automation_rules"

    id = Column(Integer, primary_key=True)
    name = Column(String(255), nullable=False)
    automation_type = Column(Enum(AutomationType), nullable=False)
    action_name = Column(String(255), nullable=False)
    enabled = Column(Boolean, default=True)
    confidence_threshold = Column(Float, default=0.85)
    auto_approve = Column(Boolean, default=False)
    auto_approve_threshold = Column(Float, default=0.95)
    config = Column(JSON, default=dict)
    created_at = Column(DateTime, default=utcnow)
    updated_at = Column(DateTime, default=utcnow, onupdate=utcnow)
    if RELEASE.has("004_rule_usage"):
        last_used_at = Column(DateTime)


class WebhookEvent(Base):
    """An event from Odoo and whether a worker has looked at it."""

    __tablename__ = "webhook_events"

    id = Column(Integer, primary_key=True)
    received_at = Column(DateTime, default=utcnow, nullable=False)
    event_type = Column(String(50), nullable=False)
    odoo_model = Column(String(255), nullable=False)
    odoo_record_id = Column(Integer)
    payload = Column("body" if RELEASE.has("005_breaking") else "payload", JSON)
    processed = Column(Boolean, default=False)
    processing_started_at = Column(DateTime)
    processing_completed_at = Column(DateTime)
    error = Column(Text)


def init_db() -> None:
    """`create_all`: it makes types and tables, adds no label or column to existing ones,

    and races with a second process that does the same on an empty database."""
    Base.metadata.create_all(get_engine())
