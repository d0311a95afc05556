"""Not additive: a renamed column that older images don't find, and a new type.

The type's label is the enum's value again: see 001.
"""

from alembic import op

revision = "005_breaking"
down_revision = "004_rule_usage"


def upgrade() -> None:
    op.alter_column("webhook_events", "payload", new_column_name="body")
    op.execute("ALTER TYPE automationtype ADD VALUE IF NOT EXISTS 'quality'")


def downgrade() -> None:
    op.alter_column("webhook_events", "body", new_column_name="payload")
