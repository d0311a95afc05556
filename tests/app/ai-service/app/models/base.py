"""Declarative base and the enum types.

Trap: SQLAlchemy stores an enum's *name* (`MONTH_END`), the migrations add its
*value* (`month_end`).
"""

import enum
from datetime import UTC, datetime

from sqlalchemy.orm import DeclarativeBase

from app.sample.release import RELEASE


class Base(DeclarativeBase):
    """The metadata of this release."""


def utcnow() -> datetime:
    """UTC without a zone, as the columns store it."""
    return datetime.now(UTC).replace(tzinfo=None)


class ActionStatus(str, enum.Enum):
    """State of an audit row."""

    PENDING = "pending"
    APPROVED = "approved"
    EXECUTED = "executed"
    REJECTED = "rejected"
    FAILED = "failed"


class AutomationType(str, enum.Enum):
    """What a rule automates; the first eleven are in released databases."""

    ACCOUNTING = "accounting"
    CRM = "crm"
    SALES = "sales"
    PURCHASE = "purchase"
    INVENTORY = "inventory"
    HR = "hr"
    PROJECT = "project"
    HELPDESK = "helpdesk"
    MANUFACTURING = "manufacturing"
    MARKETING = "marketing"
    CROSS_APP = "cross_app"
    MONTH_END = "month_end"
    DEDUPLICATION = "deduplication"
    CREDIT_MANAGEMENT = "credit_management"
    FORECASTING = "forecasting"
    REPORTING = "reporting"
    DOCUMENT_PROCESSING = "document_processing"
    SUPPLY_CHAIN = "supply_chain"
    AGENT_WORKFLOW = "agent_workflow"
    if RELEASE.has("005_breaking"):
        QUALITY = "quality"


class AgentRunStatus(str, enum.Enum):
    """State of an agent's run; a varchar(20) in migrated databases."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"


class AgentStepStatus(str, enum.Enum):
    """State of one step; a varchar(20) in migrated databases."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class RiskClassification(str, enum.Enum):
    """A supplier's class; a varchar(20) in migrated databases."""

    LOW = "low"
    WATCH = "watch"
    ELEVATED = "elevated"
    CRITICAL = "critical"


class AlertSeverity(str, enum.Enum):
    """An alert's weight; a varchar(20) in migrated databases."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"
