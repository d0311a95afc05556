"""Alembic's environment: the URL comes from AI_DATABASE_URL.

Trap: the URL passes through configparser, so a `%` in it fails and the error shows
the password. One transaction holds a whole `upgrade`.
"""

from logging.config import fileConfig

from alembic import context
from sqlalchemy import engine_from_config, pool

from app.config import get_settings
from app.models.audit import Base

config = context.config
fileConfig(config.config_file_name, disable_existing_loggers=False)
config.set_main_option("sqlalchemy.url", get_settings().ai_database_url)


def run(**target: object) -> None:
    """Runs the migrations against a connection, or prints them for a URL."""
    context.configure(target_metadata=Base.metadata, **target)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
else:
    engine = engine_from_config(
        config.get_section(config.config_ini_section, {}), poolclass=pool.NullPool
    )
    with engine.connect() as connection:
        run(connection=connection)
