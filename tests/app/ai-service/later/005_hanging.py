"""A migration that holds an exclusive lock for an hour: every reader of the rules waits."""

import sqlalchemy as sa
from alembic import op

revision = "005_hanging"
down_revision = "004_rule_usage"


def upgrade() -> None:
    op.add_column("automation_rules", sa.Column("never_there", sa.Integer, nullable=True))
    op.execute("SELECT pg_sleep(3600)")


def downgrade() -> None:
    op.drop_column("automation_rules", "never_there")
