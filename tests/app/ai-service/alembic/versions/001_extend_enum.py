"""Six more automation types.

Traps: only create_all makes the type, and the labels are the enum's values where
the code stores its names.
"""

from alembic import op

revision = "001_extend_enum"
down_revision = None

LABELS = (
    "month_end",
    "deduplication",
    "credit_management",
    "forecasting",
    "reporting",
    "document_processing",
)


def upgrade() -> None:
    for label in LABELS:
        op.execute(f"ALTER TYPE automationtype ADD VALUE IF NOT EXISTS '{label}'")


def downgrade() -> None:
    """PostgreSQL cannot drop a label."""
