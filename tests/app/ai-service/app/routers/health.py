"""`GET /health`: 200 whenever it answers.

Trap: Odoo, Redis and the database are asked one after the other, without time
limits, on the event loop of the only process.
"""

from collections.abc import Callable

import redis
from fastapi import APIRouter
from sqlalchemy import text

from app.config import get_settings
from app.database import session_scope
from app.odoo import get_odoo
from app.schemas import Health

router = APIRouter()


@router.get("/health")
async def health() -> Health:
    """`healthy` when all three answered; tables, labels and the queue don't count."""
    odoo, broker, database = (_works(check) for check in (_odoo, _redis, _database))
    return Health(
        status="healthy" if odoo and broker and database else "degraded",
        odoo_connected=odoo,
        redis_connected=broker,
        db_connected=database,
    )


def _works(check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception:
        return False
    return True


def _odoo() -> None:
    get_odoo().version()


def _redis() -> None:
    with redis.from_url(get_settings().redis_url) as client:
        client.ping()


def _database() -> None:
    with session_scope() as session:
        session.execute(text("SELECT 1"))
