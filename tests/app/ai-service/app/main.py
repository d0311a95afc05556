"""ai-service: `uvicorn app.main:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.config import get_settings
from app.models.audit import init_db
from app.routers import audit, dashboard_ws, health, rules, slack, webhooks
from app.rules_seed import seed_rules
from app.sample import routes as sample_routes
from app.sample import switches
from app.sample.errors import ErrorRate, RulesFault

settings = get_settings()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Tables, then rules. Any failure here ends uvicorn with exit code 3."""
    switches.before_start("ai-service")
    init_db()
    seed_rules()
    switches.after_start("ai-service")
    yield


app = FastAPI(title="Odoo AI Platform (sample)", version="1.0.0", lifespan=lifespan)
app.add_middleware(
    CORSMiddleware,
    allow_origins=settings.allowed_origins,
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)
app.add_middleware(ErrorRate)
app.add_middleware(RulesFault)
for module in (health, webhooks, rules, audit, slack, dashboard_ws, sample_routes):
    app.include_router(module.router)
