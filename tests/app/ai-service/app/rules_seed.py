"""The rules that an empty table is given: 45, all enabled."""

from sqlalchemy import func, select

from app.database import session_scope
from app.models.audit import AutomationRule

SEED: dict[str, tuple[str, ...]] = {
    "accounting": (
        "categorize_transaction",
        "reconcile_transaction",
        "flag_anomaly",
        "enhanced_reconciliation",
    ),
    "crm": ("score_lead", "assign_lead", "generate_followup", "detect_duplicates"),
    "sales": ("generate_quotation", "optimize_pricing", "forecast_pipeline"),
    "purchase": ("auto_create_po", "select_vendor", "match_bills"),
    "inventory": ("forecast_demand", "auto_reorder", "categorize_products"),
    "hr": ("approve_leave", "process_expense"),
    "project": ("assign_task", "estimate_duration"),
    "helpdesk": ("categorize_ticket", "assign_ticket"),
    "manufacturing": ("schedule_production",),
    "marketing": ("segment_contacts",),
    "month_end": ("preclose_scan", "closing_analysis"),
    "deduplication": ("weekly_scan", "duplicate_check"),
    "credit_management": ("calculate_scores", "credit_check", "auto_release"),
    "document_processing": ("process_document", "vendor_match", "po_validation"),
    "reporting": ("generate_digest", "deliver_digest", "generate_report", "scheduled_report"),
    "forecasting": ("generate_forecast", "scenario_analysis", "accuracy_tracking"),
    "supply_chain": ("risk_scoring", "disruption_prediction", "single_source_detection"),
}


def seed_rules() -> None:
    """Fills an empty table. A table with rows is never given a release's new rules."""
    with session_scope() as session:
        if session.scalar(select(func.count()).select_from(AutomationRule)):
            return
        for automation_type, actions in SEED.items():
            for action in actions:
                session.add(
                    AutomationRule(
                        name=f"{automation_type}: {action}".replace("_", " ").capitalize(),
                        automation_type=automation_type,
                        action_name=action,
                        enabled=True,
                    )
                )
