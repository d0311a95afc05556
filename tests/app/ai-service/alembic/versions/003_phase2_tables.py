"""Nine tables of phase 2 and two more automation types.

Traps: four columns are varchar(20) where the models have enum types, and the
labels are lower-case again.
"""

import sqlalchemy as sa
from alembic import op

revision = "003_phase2_tables"
down_revision = "002_phase1_tables"

TABLES = (
    "agent_runs",
    "agent_steps",
    "agent_decisions",
    "agent_suspensions",
    "supplier_risk_scores",
    "supplier_risk_factors",
    "disruption_predictions",
    "supply_chain_alerts",
    "alternative_supplier_maps",
)


def _table(name: str, *columns: sa.schema.SchemaItem) -> None:
    op.create_table(name, sa.Column("id", sa.Integer, primary_key=True), *columns)


def _parent(name: str, table: str) -> sa.Column:
    key = sa.ForeignKey(f"{table}.id", ondelete="CASCADE")
    return sa.Column(name, sa.Integer, key, nullable=False)


def upgrade() -> None:
    _table(
        "agent_runs",
        sa.Column("agent_type", sa.String(100), nullable=False),
        sa.Column("status", sa.String(20), server_default="pending", nullable=False),
        sa.Column("started_at", sa.DateTime, server_default=sa.func.now()),
    )
    _table(
        "agent_steps",
        _parent("agent_run_id", "agent_runs"),
        sa.Column("step_name", sa.String(100), nullable=False),
        sa.Column("status", sa.String(20), server_default="pending", nullable=False),
    )
    op.create_index("idx_agent_steps_run", "agent_steps", ["agent_run_id"])
    _table(
        "agent_decisions",
        _parent("agent_step_id", "agent_steps"),
        sa.Column("confidence", sa.Float),
        sa.Column("response", sa.JSON),
    )
    _table(
        "agent_suspensions",
        _parent("agent_run_id", "agent_runs"),
        sa.Column("resume_condition", sa.String(100), nullable=False),
        sa.Column("timeout_at", sa.DateTime),
    )
    _table(
        "supplier_risk_scores",
        sa.Column("vendor_id", sa.Integer, nullable=False),
        sa.Column("score", sa.Numeric(5, 2), nullable=False),
        sa.Column("classification", sa.String(20), nullable=False),
    )
    op.create_index("idx_risk_scores_vendor", "supplier_risk_scores", ["vendor_id"])
    _table(
        "supplier_risk_factors",
        _parent("risk_score_id", "supplier_risk_scores"),
        sa.Column("factor_name", sa.String(100), nullable=False),
        sa.Column("weight", sa.Numeric(4, 2), nullable=False),
    )
    _table(
        "disruption_predictions",
        sa.Column("vendor_id", sa.Integer, nullable=False),
        sa.Column("probability", sa.Numeric(5, 4), nullable=False),
        sa.Column("is_active", sa.Boolean, server_default="true"),
    )
    _table(
        "supply_chain_alerts",
        sa.Column("severity", sa.String(20), nullable=False),
        sa.Column("title", sa.String(500), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("prediction_id", sa.Integer, sa.ForeignKey("disruption_predictions.id")),
    )
    _table(
        "alternative_supplier_maps",
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("primary_vendor_id", sa.Integer, nullable=False),
        sa.Column("alternative_vendor_id", sa.Integer, nullable=False),
        sa.Column("is_single_source", sa.Boolean, server_default="false"),
    )
    for label in ("supply_chain", "agent_workflow"):
        op.execute(f"ALTER TYPE automationtype ADD VALUE IF NOT EXISTS '{label}'")


def downgrade() -> None:
    for name in reversed(TABLES):
        op.drop_table(name)
