"""Odoo by XML-RPC, without any time limit: the trap behind a hanging `/health`."""

import time
import xmlrpc.client
from typing import Any

from app.config import get_settings

# Three tries, 1 s and 2 s apart: a refused Odoo costs the first caller 3 s, one
# that drops packets three times the TCP connect time-out.
RETRY_DELAYS = (1.0, 2.0)


class OdooClient:
    """A client that logs in once; wrong credentials are not noticed here."""

    def __init__(self) -> None:
        settings = get_settings()
        self._database = settings.odoo_db
        self._user = settings.odoo_username
        self._secret = settings.odoo_secret
        self._uid: Any = None
        base = settings.odoo_url.rstrip("/")
        self._common = xmlrpc.client.ServerProxy(f"{base}/xmlrpc/2/common", allow_none=True)
        self._object = xmlrpc.client.ServerProxy(f"{base}/xmlrpc/2/object", allow_none=True)

    def login(self) -> None:
        """Authenticates. Odoo answers wrong credentials with `False`, no error."""
        for delay in (*RETRY_DELAYS, None):
            try:
                self._uid = self._common.authenticate(self._database, self._user, self._secret, {})
                return
            except Exception:
                if delay is None:
                    raise
                time.sleep(delay)

    def version(self) -> Any:
        """A cheap question that needs no login."""
        return self._common.version()

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """`execute_kw`; here a login that failed shows as `Access Denied`."""
        if self._uid is None:
            self.login()
        return self._object.execute_kw(
            self._database, self._uid, self._secret, model, method, args, kwargs
        )


class _State:
    client: OdooClient | None = None


def get_odoo() -> OdooClient:
    """The process's client. Only the first call logs in, so only it pays for retries."""
    if _State.client is None:
        _State.client = OdooClient()
        _State.client.login()
    return _State.client
