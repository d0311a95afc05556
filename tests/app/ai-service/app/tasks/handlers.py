"""What happens to an event or a trigger, by automation type.

The registry is filled when a worker starts and finds the database; without it
events are marked processed and leave no audit row.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from app.config import get_settings
from app.models.base import ActionStatus
from app.odoo import get_odoo

MODEL_TYPES = {
    "crm.lead": "deduplication",
    "res.partner": "deduplication",
    "product.template": "deduplication",
    "account.move": "forecasting",
    "account.payment": "forecasting",
    "sale.order": "credit_management",
    "stock.picking": "supply_chain",
    "account.bank.statement.line": "accounting",
    "purchase.order": "purchase",
    "product.product": "inventory",
    "hr.leave": "hr",
    "hr.expense": "hr",
    "project.task": "project",
    "helpdesk.ticket": "helpdesk",
    "mrp.production": "manufacturing",
    "mailing.mailing": "marketing",
}

# A sleep in an event is bounded by this, whatever the event says.
MAX_SLEEP_SECONDS = 900.0


@dataclass
class Outcome:
    """What goes into the audit row."""

    action: str
    status: ActionStatus
    confidence: float = 0.0
    reasoning: str = ""
    output: dict[str, Any] = field(default_factory=dict)


_registered: set[str] = set()


def register_handlers() -> None:
    """Makes this process able to handle anything at all."""
    _registered.update(MODEL_TYPES.values())


def type_of(model: str) -> str | None:
    """The automation type of an Odoo model, where this process has its handler."""
    automation_type = MODEL_TYPES.get(model)
    return automation_type if automation_type in _registered else None


def has_handler(automation_type: str) -> bool:
    """Whether a trigger of that type finds anything to run."""
    return automation_type in _registered


def handle_event(event_type: str, values: dict[str, Any]) -> Outcome:
    """Handles an event. For tests `sleep` and `confidence` in its values count."""
    time.sleep(min(float(values.get("sleep", 0)), MAX_SLEEP_SECONDS))
    confidence = float(values.get("confidence", 0.97))
    settings = get_settings()
    if confidence >= settings.auto_approve_threshold:
        status = ActionStatus.EXECUTED
    elif confidence >= settings.default_confidence_threshold:
        status = ActionStatus.PENDING
    else:
        status = ActionStatus.FAILED
    return Outcome(f"on_{event_type}", status, confidence, "sample", {"slept": values.get("sleep")})


def run_action(automation_type: str, action: str, record_id: int) -> Outcome:
    """Only purchase/match_bills exists; every other action ends in a failed row."""
    if (automation_type, action) != ("purchase", "match_bills"):
        return Outcome(action, ActionStatus.FAILED, reasoning=f"Unknown action: {action}")
    bills = get_odoo().call("account.move", "search", [["purchase_id", "=", record_id]])
    return Outcome(action, ActionStatus.EXECUTED, 0.97, "sample", {"bills": bills})
