"""Beat's 18 entries: intervals that count from the schedule file, none at start."""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

BEAT_SCHEDULE: dict[str, tuple[float, tuple[str, str]]] = {
    "scan-lead-scoring": (30 * MINUTE, ("crm", "score_lead")),
    "scan-reconciliations": (HOUR, ("accounting", "reconcile_transaction")),
    "scan-anomalies": (HOUR, ("accounting", "flag_anomaly")),
    "scan-reorder-points": (2 * HOUR, ("inventory", "auto_reorder")),
    "scan-production": (2 * HOUR, ("manufacturing", "schedule_production")),
    "scan-tickets": (2 * HOUR, ("helpdesk", "categorize_ticket")),
    "scan-demand": (4 * HOUR, ("inventory", "forecast_demand")),
    "scan-bills": (4 * HOUR, ("purchase", "match_bills")),
    "scan-tasks": (6 * HOUR, ("project", "estimate_duration")),
    "nightly-credit-scores": (DAY, ("credit_management", "calculate_scores")),
    "nightly-forecast": (DAY, ("forecasting", "generate_forecast")),
    "nightly-accuracy": (DAY, ("forecasting", "accuracy_tracking")),
    "nightly-digest": (DAY, ("reporting", "generate_digest")),
    "nightly-preclose": (DAY, ("month_end", "preclose_scan")),
    "nightly-risk": (DAY, ("supply_chain", "risk_scoring")),
    "nightly-segments": (DAY, ("marketing", "segment_contacts")),
    "weekly-duplicates": (7 * DAY, ("deduplication", "weekly_scan")),
    "weekly-single-source": (7 * DAY, ("supply_chain", "single_source_detection")),
}
