"""`/ws/dashboard`: events from Redis to browsers, no key needed.

Trap: the first client starts a listener that blocks the event loop 1.0 s of every
1.1 s, also when that client has long gone.
"""

import asyncio

import redis
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from app.config import get_settings

router = APIRouter()

CHANNEL = "dashboard_events"
_clients: set[WebSocket] = set()


class _State:
    listener: asyncio.Task[None] | None = None


@router.websocket("/ws/dashboard")
async def dashboard(socket: WebSocket, role: str | None = None) -> None:
    """Accepts anyone; `role` chooses what a dashboard shows."""
    if _State.listener is None or _State.listener.done():
        _State.listener = asyncio.create_task(_listen())
    await socket.accept()
    _clients.add(socket)
    try:
        while True:
            await socket.receive_text()
            await socket.send_json({"type": "pong", "role": role})
    except WebSocketDisconnect:
        _clients.discard(socket)


async def _listen() -> None:
    subscription = redis.from_url(get_settings().redis_url, decode_responses=True).pubsub()
    try:
        subscription.subscribe(CHANNEL)
        while True:
            message = subscription.get_message(ignore_subscribe_messages=True, timeout=1.0)
            if message:
                await _broadcast(message["data"])
            await asyncio.sleep(0.1)
    except redis.RedisError:
        return


async def _broadcast(text: str) -> None:
    for socket in list(_clients):
        try:
            await socket.send_text(text)
        except Exception:
            _clients.discard(socket)
