"""A migration that does something and then fails: all of it must be rolled back."""

import sqlalchemy as sa
from alembic import op

revision = "005_failing"
down_revision = "004_rule_usage"


def upgrade() -> None:
    op.create_table("half_done", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("ALTER TABLE no_such_table ADD COLUMN anything integer")


def downgrade() -> None:
    op.drop_table("half_done")
