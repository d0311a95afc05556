"""Nine tables of the second phase (revision 003). The sample never fills them.

Trap: four columns are enum types here and varchar(20) in the migration.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    Text,
)

from app.models.base import (
    AgentRunStatus,
    AgentStepStatus,
    AlertSeverity,
    Base,
    RiskClassification,
    utcnow,
)


class AgentRun(Base):
    """First table of revision 003: the one that collides with create_all."""

    __tablename__ = "agent_runs"

    id = Column(Integer, primary_key=True)
    agent_type = Column(String(100), nullable=False)
    status = Column(Enum(AgentRunStatus), default=AgentRunStatus.PENDING, nullable=False)
    started_at = Column(DateTime, default=utcnow)


class AgentStep(Base):
    __tablename__ = "agent_steps"
    __table_args__ = (Index("idx_agent_steps_run", "agent_run_id"),)

    id = Column(Integer, primary_key=True)
    agent_run_id = Column(Integer, ForeignKey("agent_runs.id", ondelete="CASCADE"), nullable=False)
    step_name = Column(String(100), nullable=False)
    status = Column(Enum(AgentStepStatus), default=AgentStepStatus.PENDING, nullable=False)


class AgentDecision(Base):
    __tablename__ = "agent_decisions"

    id = Column(Integer, primary_key=True)
    agent_step_id = Column(
        Integer, ForeignKey("agent_steps.id", ondelete="CASCADE"), nullable=False
    )
    confidence = Column(Float)
    response = Column(JSON)


class AgentSuspension(Base):
    __tablename__ = "agent_suspensions"

    id = Column(Integer, primary_key=True)
    agent_run_id = Column(Integer, ForeignKey("agent_runs.id", ondelete="CASCADE"), nullable=False)
    resume_condition = Column(String(100), nullable=False)
    timeout_at = Column(DateTime)


class SupplierRiskScore(Base):
    __tablename__ = "supplier_risk_scores"
    __table_args__ = (Index("idx_risk_scores_vendor", "vendor_id"),)

    id = Column(Integer, primary_key=True)
    vendor_id = Column(Integer, nullable=False)
    score = Column(Numeric(5, 2), nullable=False)
    classification = Column(Enum(RiskClassification), nullable=False)


class SupplierRiskFactor(Base):
    __tablename__ = "supplier_risk_factors"

    id = Column(Integer, primary_key=True)
    risk_score_id = Column(
        Integer, ForeignKey("supplier_risk_scores.id", ondelete="CASCADE"), nullable=False
    )
    factor_name = Column(String(100), nullable=False)
    weight = Column(Numeric(4, 2), nullable=False)


class DisruptionPrediction(Base):
    __tablename__ = "disruption_predictions"

    id = Column(Integer, primary_key=True)
    vendor_id = Column(Integer, nullable=False)
    probability = Column(Numeric(5, 4), nullable=False)
    is_active = Column(Boolean, default=True)


class SupplyChainAlert(Base):
    __tablename__ = "supply_chain_alerts"

    id = Column(Integer, primary_key=True)
    severity = Column(Enum(AlertSeverity), nullable=False)
    title = Column(String(500), nullable=False)
    message = Column(Text, nullable=False)
    prediction_id = Column(Integer, ForeignKey("disruption_predictions.id"))


class AlternativeSupplier(Base):
    __tablename__ = "alternative_supplier_maps"

    id = Column(Integer, primary_key=True)
    product_id = Column(Integer, nullable=False)
    primary_vendor_id = Column(Integer, nullable=False)
    alternative_vendor_id = Column(Integer, nullable=False)
    is_single_source = Column(Boolean, default=False)
