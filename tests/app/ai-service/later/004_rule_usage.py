"""When a rule was last used: additive, a nullable column, a table and two indexes.

Image 1.0.0 runs on this schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "004_rule_usage"
down_revision = "003_phase2_tables"


def upgrade() -> None:
    op.add_column("automation_rules", sa.Column("last_used_at", sa.DateTime, nullable=True))
    op.create_table(
        "rule_usage",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "rule_id",
            sa.Integer,
            sa.ForeignKey("automation_rules.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("day", sa.DateTime, nullable=False),
        sa.Column("uses", sa.Integer),
    )
    op.create_index("idx_rule_usage_day", "rule_usage", ["day"])
    op.create_index("idx_audit_logs_timestamp", "audit_logs", ["timestamp"])


def downgrade() -> None:
    op.drop_index("idx_audit_logs_timestamp", "audit_logs")
    op.drop_table("rule_usage")
    op.drop_column("automation_rules", "last_used_at")
