"""Settings by name from the environment (case-insensitive) or from `.env`.

Trap: the two ports are parsed although nothing uses the first one, so a service
link (`AI_SERVICE_PORT=tcp://…`) ends every command at import.
"""

from functools import lru_cache

from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_ORIGINS = ["http://localhost:3000", "http://localhost:8000"]


class Settings(BaseSettings):
    """Every setting of the real platform that has a default or a meaning here."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    odoo_url: str = "http://odoo-web:8069"
    odoo_db: str = "odoo"
    odoo_username: str = "admin"
    odoo_password: str = "admin"
    odoo_api_key: str = ""

    anthropic_api_key: str = ""
    claude_model: str = "claude-sample"

    redis_url: str = "redis://redis:6379/0"
    ai_database_url: str = "postgresql://odoo_ai:changeme-db-password@ai-db:5432/odoo_ai"

    ai_service_host: str = "0.0.0.0"
    ai_service_port: int = 8000
    ai_secret_key: str = "change-me"
    webhook_secret: str = "change-me-webhook-secret"
    log_level: str = "INFO"
    cors_origins: str = ""

    default_confidence_threshold: float = 0.85
    auto_approve_threshold: float = 0.95

    slack_bot_token: str = ""
    slack_signing_secret: str = ""
    slack_default_channel: str = ""

    smtp_host: str = ""
    smtp_port: int = 587
    smtp_user: str = ""
    smtp_password: str = ""
    smtp_from_address: str = ""
    smtp_use_tls: bool = True

    idp_max_pages: int = 50
    idp_confidence_threshold: float = 0.9
    agent_max_steps: int = 20
    agent_max_tokens: int = 50_000
    agent_suspension_timeout_hours: int = 48
    agent_loop_threshold: int = 3

    @property
    def odoo_secret(self) -> str:
        """What Odoo is asked with: the API key wins over the password."""
        return self.odoo_api_key or self.odoo_password

    @property
    def allowed_origins(self) -> list[str]:
        """`CORS_ORIGINS` replaces the whole default list."""
        given = [origin.strip() for origin in self.cors_origins.split(",")]
        return [origin for origin in given if origin] or [self.odoo_url, *DEFAULT_ORIGINS]


@lru_cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
