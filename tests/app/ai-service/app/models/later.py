"""What revision 004 adds besides a column."""

from sqlalchemy import Column, DateTime, ForeignKey, Index, Integer

from app.models.base import Base, utcnow


class RuleUsage(Base):
    """How often a rule let something through, per day."""

    __tablename__ = "rule_usage"
    __table_args__ = (Index("idx_rule_usage_day", "day"),)

    id = Column(Integer, primary_key=True)
    rule_id = Column(Integer, ForeignKey("automation_rules.id", ondelete="CASCADE"), nullable=False)
    day = Column(DateTime, default=utcnow, nullable=False)
    uses = Column(Integer, default=0)
