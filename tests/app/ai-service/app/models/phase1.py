"""Thirteen tables of the first phase (revision 002). The sample never fills them."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    Text,
    UniqueConstraint,
)

from app.models.base import Base, utcnow


class MonthEndClosing(Base):
    """First table of revision 002: the one that collides with create_all."""

    __tablename__ = "month_end_closings"
    __table_args__ = (UniqueConstraint("period", name="uq_month_end_period"),)

    id = Column(Integer, primary_key=True)
    period = Column(String(7), nullable=False)
    status = Column(String(20), default="in_progress")
    started_at = Column(DateTime, default=utcnow)
    checklist = Column(JSON, default=dict)


class ClosingStep(Base):
    __tablename__ = "closing_steps"
    __table_args__ = (Index("idx_closing_steps_closing", "closing_id"),)

    id = Column(Integer, primary_key=True)
    closing_id = Column(
        Integer, ForeignKey("month_end_closings.id", ondelete="CASCADE"), nullable=False
    )
    step_name = Column(String(100), nullable=False)
    status = Column(String(20), default="pending")


class ReconciliationSession(Base):
    __tablename__ = "reconciliation_sessions"
    __table_args__ = (Index("idx_recon_sessions_status", "status"),)

    id = Column(Integer, primary_key=True)
    user_id = Column(String(255))
    journal_id = Column(Integer)
    status = Column(String(20), default="active")


class DocumentProcessingJob(Base):
    __tablename__ = "document_processing_jobs"
    __table_args__ = (Index("idx_doc_jobs_status", "status"),)

    id = Column(Integer, primary_key=True)
    file_name = Column(String(500))
    status = Column(String(20), default="queued")
    overall_confidence = Column(Numeric(5, 4))


class ExtractionCorrection(Base):
    __tablename__ = "extraction_corrections"

    id = Column(Integer, primary_key=True)
    job_id = Column(
        Integer, ForeignKey("document_processing_jobs.id", ondelete="CASCADE"), nullable=False
    )
    field_name = Column(String(100), nullable=False)
    corrected_value = Column(Text)


class DeduplicationScan(Base):
    __tablename__ = "deduplication_scans"
    # In no migration: one of the two indexes that a migrated database lacks.
    __table_args__ = (Index("idx_dedup_scans_type", "scan_type"),)

    id = Column(Integer, primary_key=True)
    scan_type = Column(String(50), nullable=False)
    duplicates_found = Column(Integer, default=0)


class DuplicateGroup(Base):
    __tablename__ = "duplicate_groups"

    id = Column(Integer, primary_key=True)
    scan_id = Column(
        Integer, ForeignKey("deduplication_scans.id", ondelete="CASCADE"), nullable=False
    )
    odoo_model = Column(String(255), nullable=False)
    record_ids = Column(JSON, nullable=False)


class CreditScore(Base):
    __tablename__ = "credit_scores"
    # In no migration: the other index that a migrated database lacks.
    __table_args__ = (Index("idx_credit_scores_hold", "hold_active"),)

    id = Column(Integer, primary_key=True)
    customer_id = Column(Integer, nullable=False, unique=True)
    credit_score = Column(Numeric(5, 2))
    hold_active = Column(Boolean, default=False)


class ReportJob(Base):
    __tablename__ = "report_jobs"

    id = Column(Integer, primary_key=True)
    request_text = Column(Text, nullable=False)
    status = Column(String(20), default="pending")


class CashForecast(Base):
    __tablename__ = "cash_forecasts"
    __table_args__ = (Index("idx_cash_forecasts_dates", "forecast_date", "target_date"),)

    id = Column(Integer, primary_key=True)
    forecast_date = Column(Date, nullable=False)
    target_date = Column(Date, nullable=False)
    predicted_balance = Column(Numeric(15, 2), nullable=False)


class ForecastScenario(Base):
    __tablename__ = "forecast_scenarios"

    id = Column(Integer, primary_key=True)
    name = Column(String(255), nullable=False)
    base_forecast_id = Column(Integer, ForeignKey("cash_forecasts.id"))


class ForecastAccuracy(Base):
    __tablename__ = "forecast_accuracy_log"

    id = Column(Integer, primary_key=True)
    forecast_id = Column(Integer, ForeignKey("cash_forecasts.id"))
    error_pct = Column(Numeric(8, 4))


class DailyDigest(Base):
    __tablename__ = "daily_digests"

    id = Column(Integer, primary_key=True)
    user_role = Column(String(100), nullable=False)
    digest_date = Column(Date, nullable=False)
    content = Column(JSON, nullable=False)
