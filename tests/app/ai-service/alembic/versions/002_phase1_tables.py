"""Thirteen tables of phase 1.

Trap: two of the models' indexes are missing here.
"""

import sqlalchemy as sa
from alembic import op

revision = "002_phase1_tables"
down_revision = "001_extend_enum"

TABLES = (
    "month_end_closings",
    "closing_steps",
    "reconciliation_sessions",
    "document_processing_jobs",
    "extraction_corrections",
    "deduplication_scans",
    "duplicate_groups",
    "credit_scores",
    "report_jobs",
    "cash_forecasts",
    "forecast_scenarios",
    "forecast_accuracy_log",
    "daily_digests",
)


def _table(name: str, *columns: sa.schema.SchemaItem) -> None:
    op.create_table(name, sa.Column("id", sa.Integer, primary_key=True), *columns)


def upgrade() -> None:
    _table(
        "month_end_closings",
        sa.Column("period", sa.String(7), nullable=False),
        sa.Column("status", sa.String(20), server_default="in_progress"),
        sa.Column("started_at", sa.DateTime, server_default=sa.func.now()),
        sa.Column("checklist", sa.JSON, server_default="{}"),
        sa.UniqueConstraint("period", name="uq_month_end_period"),
    )
    _table(
        "closing_steps",
        sa.Column(
            "closing_id",
            sa.Integer,
            sa.ForeignKey("month_end_closings.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("step_name", sa.String(100), nullable=False),
        sa.Column("status", sa.String(20), server_default="pending"),
    )
    op.create_index("idx_closing_steps_closing", "closing_steps", ["closing_id"])
    _table(
        "reconciliation_sessions",
        sa.Column("user_id", sa.String(255)),
        sa.Column("journal_id", sa.Integer),
        sa.Column("status", sa.String(20), server_default="active"),
    )
    op.create_index("idx_recon_sessions_status", "reconciliation_sessions", ["status"])
    _table(
        "document_processing_jobs",
        sa.Column("file_name", sa.String(500)),
        sa.Column("status", sa.String(20), server_default="queued"),
        sa.Column("overall_confidence", sa.Numeric(5, 4)),
    )
    op.create_index("idx_doc_jobs_status", "document_processing_jobs", ["status"])
    _table(
        "extraction_corrections",
        sa.Column(
            "job_id",
            sa.Integer,
            sa.ForeignKey("document_processing_jobs.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("field_name", sa.String(100), nullable=False),
        sa.Column("corrected_value", sa.Text),
    )
    _table(
        "deduplication_scans",
        sa.Column("scan_type", sa.String(50), nullable=False),
        sa.Column("duplicates_found", sa.Integer, server_default="0"),
    )
    _table(
        "duplicate_groups",
        sa.Column(
            "scan_id",
            sa.Integer,
            sa.ForeignKey("deduplication_scans.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("odoo_model", sa.String(255), nullable=False),
        sa.Column("record_ids", sa.JSON, nullable=False),
    )
    _table(
        "credit_scores",
        sa.Column("customer_id", sa.Integer, nullable=False, unique=True),
        sa.Column("credit_score", sa.Numeric(5, 2)),
        sa.Column("hold_active", sa.Boolean, server_default="false"),
    )
    _table(
        "report_jobs",
        sa.Column("request_text", sa.Text, nullable=False),
        sa.Column("status", sa.String(20), server_default="pending"),
    )
    _table(
        "cash_forecasts",
        sa.Column("forecast_date", sa.Date, nullable=False),
        sa.Column("target_date", sa.Date, nullable=False),
        sa.Column("predicted_balance", sa.Numeric(15, 2), nullable=False),
    )
    op.create_index("idx_cash_forecasts_dates", "cash_forecasts", ["forecast_date", "target_date"])
    _table(
        "forecast_scenarios",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("base_forecast_id", sa.Integer, sa.ForeignKey("cash_forecasts.id")),
    )
    _table(
        "forecast_accuracy_log",
        sa.Column("forecast_id", sa.Integer, sa.ForeignKey("cash_forecasts.id")),
        sa.Column("error_pct", sa.Numeric(8, 4)),
    )
    _table(
        "daily_digests",
        sa.Column("user_role", sa.String(100), nullable=False),
        sa.Column("digest_date", sa.Date, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for name in reversed(TABLES):
        op.drop_table(name)
