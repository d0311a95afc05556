"""Routes for tests only; the real platform has none under `/sample/`."""

import asyncio

from fastapi import APIRouter

from app.sample.release import RELEASE

router = APIRouter(prefix="/sample", include_in_schema=False)


@router.get("/version")
async def version() -> dict[str, object]:
    """The true version: `/health` says 1.0.0 for ever."""
    return {"sample_version": RELEASE.version, "revisions": list(RELEASE.revisions)}


@router.get("/sleep")
async def sleep(seconds: float) -> dict[str, float]:
    """A request that takes its time, for graceful shutdown (at most ten minutes)."""
    await asyncio.sleep(min(seconds, 600.0))
    return {"slept": seconds}
