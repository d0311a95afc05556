"""The Celery application: `celery -A app.tasks.celery_app:celery_app worker|beat`."""

from celery import Celery
from celery.signals import beat_init, worker_init, worker_process_init, worker_ready

from app.config import get_settings
from app.sample import switches
from app.tasks.schedule import BEAT_SCHEDULE

TASKS = "app.tasks.celery_tasks"
_redis_url = get_settings().redis_url

celery_app = Celery("odoo_ai", broker=_redis_url, backend=_redis_url, include=[TASKS])
celery_app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_serializer="json",
    timezone="UTC",
    enable_utc=True,
    task_track_started=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_soft_time_limit=300,
    task_time_limit=600,
    broker_connection_retry_on_startup=True,
    # execute_approved_action has no route: it goes to the queue `celery`.
    task_routes={
        f"{TASKS}.process_webhook_event": {"queue": "webhooks"},
        f"{TASKS}.run_automation": {"queue": "automations"},
        f"{TASKS}.run_scheduled": {"queue": "scheduled"},
    },
    beat_schedule={
        name: {"task": f"{TASKS}.run_scheduled", "schedule": interval, "args": args}
        for name, (interval, args) in BEAT_SCHEDULE.items()
    },
)


@worker_init.connect
def _prepare_worker(**_: object) -> None:
    """Tables and handlers, in the parent before it forks.

    Two traps: a database that is away leaves a worker that looks well and has no
    handlers, and the children inherit the parent's open connection.
    """
    from app.models.audit import init_db
    from app.tasks.handlers import register_handlers

    switches.refuse_worker()
    switches.before_start("worker")
    try:
        init_db()
        register_handlers()
    except Exception:
        return


@worker_process_init.connect
def _prepare_child(**_: object) -> None:
    if switches.fork_safe():
        from app.database import get_engine

        get_engine().dispose(close=False)


@worker_ready.connect
def _worker_started(**_: object) -> None:
    switches.after_start("worker")


@beat_init.connect
def _beat_started(**_: object) -> None:
    switches.before_start("beat")
    switches.after_start("beat")
