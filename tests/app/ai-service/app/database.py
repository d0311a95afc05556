"""One lazy engine for the process. Its pool size cannot be set."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from app.config import get_settings

# Nothing listens on port 1: every connection is refused at once.
BROKEN_URL = "postgresql://nobody@127.0.0.1:1/nowhere"


class _State:
    engine: Engine | None = None


def get_engine() -> Engine:
    """The engine, made on first use. In the worker the children inherit it over fork."""
    if _State.engine is None:
        _State.engine = create_engine(get_settings().ai_database_url, pool_pre_ping=True)
    return _State.engine


def break_engine() -> None:
    """The `unhealthy` switch: from here on this process finds no database."""
    _State.engine = create_engine(BROKEN_URL)


@contextmanager
def session_scope() -> Iterator[Session]:
    """A session that commits at the end and rolls back on any error."""
    session = sessionmaker(bind=get_engine())()
    try:
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.close()


async def get_db() -> AsyncIterator[Session]:
    """A request's session; it commits after the handler has answered."""
    with session_scope() as session:
        yield session
