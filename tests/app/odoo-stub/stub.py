"""A stand-in for Odoo: XML-RPC on 8069, with ways to be of no help.

Modes, by STUB_MODE or at run time by `POST /stub/mode` with the mode as the body:
  normal  logs in whoever has STUB_PASSWORD (unset: everyone) and answers
  deny    every login fails: `authenticate` answers False, calls `Access Denied`
  hang    accepts and never answers
  refuse  closes the listening socket: connections are refused

In refuse mode the run-time switch is closed too, so it opens on STUB_CONTROL_PORT
(8070), which always answers; `GET /stub/mode` tells the mode and the calls so far.
"""

import json
import os
import signal
import socketserver
import threading
import xmlrpc.client
from http.server import BaseHTTPRequestHandler
from typing import Any

MODES = ("normal", "deny", "hang", "refuse")
UID = 2
RECORDS = [{"id": number, "name": f"Record {number}"} for number in (1, 2, 3)]


class Stub:
    """The stub's state and its public listener, which comes and goes."""

    def __init__(self, port: int) -> None:
        self.calls = 0
        self.mode = ""
        self._port = port
        self._listener: socketserver.TCPServer | None = None
        self._change = threading.Lock()

    def switch(self, mode: str) -> None:
        """Changes the mode; a closed listener opens again."""
        with self._change:
            self.mode = mode
            if mode == "refuse":
                self._close()
            elif self._listener is None:
                self._listener = serve(self._port, self, public=True)

    def _close(self) -> None:
        if self._listener is not None:
            # From another thread than the one that serves: shutdown waits for it.
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None


class Server(socketserver.ThreadingTCPServer):
    """A thread per connection; hanging ones don't hold up the end."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


def serve(port: int, stub: Stub, public: bool) -> Server:
    """Listens on all interfaces and serves in the background."""
    handler = type("Handler", (RequestHandler,), {"stub": stub, "public": public})
    server = Server(("0.0.0.0", port), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


class RequestHandler(BaseHTTPRequestHandler):
    """XML-RPC and the switch."""

    stub: Stub
    public: bool
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Tells the mode; everything else is a page of Odoo."""
        if self.path == "/stub/mode":
            self._answer(200, "application/json", self._state())
        elif self._served():
            self._answer(200, "text/html", b"<title>Odoo (stub)</title>")

    def do_POST(self) -> None:
        """XML-RPC, or a new mode."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/stub/mode":
            self._switch(body.decode().strip())
        elif self._served():
            self._call(body)

    def _switch(self, mode: str) -> None:
        if mode not in MODES:
            self._answer(400, "text/plain", f"one of {', '.join(MODES)}\n".encode())
            return
        self.close_connection = True
        self.stub.switch(mode)
        self._answer(200, "application/json", self._state())

    def _served(self) -> bool:
        """Whether to answer: connections that were open before meet the mode too."""
        if self.public and self.stub.mode == "hang":
            self.stub.calls += 1
            threading.Event().wait()
        if self.public and self.stub.mode == "refuse":
            self.close_connection = True
            return False
        return True

    def _call(self, body: bytes) -> None:
        self.stub.calls += 1
        parameters, method = xmlrpc.client.loads(body)
        try:
            if self.path == "/xmlrpc/2/common":
                result = common(self.stub.mode, method, *parameters)
            elif self.path == "/xmlrpc/2/object":
                result = execute(self.stub.mode, method, *parameters)
            else:
                self._answer(404, "text/plain", b"no such endpoint\n")
                return
            text = xmlrpc.client.dumps((result,), methodresponse=True, allow_none=True)
        except xmlrpc.client.Fault as fault:
            text = xmlrpc.client.dumps(fault, allow_none=True)
        self._answer(200, "text/xml", text.encode())

    def _state(self) -> bytes:
        return json.dumps({"mode": self.stub.mode, "calls": self.stub.calls}).encode()

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """One line per request, without the body: it holds a password."""
        print(f"{self.command} {self.path} {self.stub.mode}")


def common(mode: str, method: str, *parameters: Any) -> Any:
    """`/xmlrpc/2/common`."""
    if method == "version":
        return {"server_version": "18.0", "server_serie": "18.0", "protocol_version": 1}
    if method in ("authenticate", "login"):
        expected = os.environ.get("STUB_PASSWORD")
        right = expected is None or parameters[2] == expected
        return UID if right and mode != "deny" else False
    raise xmlrpc.client.Fault(1, f"no method {method}")


def execute(mode: str, method: str, *parameters: Any) -> Any:
    """`/xmlrpc/2/object`: `execute_kw` on any model."""
    if method != "execute_kw":
        raise xmlrpc.client.Fault(1, f"no method {method}")
    _, uid, password, _, action = parameters[:5]
    expected = os.environ.get("STUB_PASSWORD")
    if mode == "deny" or uid != UID or (expected is not None and password != expected):
        raise xmlrpc.client.Fault(3, "Access Denied")
    answers: dict[str, Any] = {
        "search": [record["id"] for record in RECORDS],
        "read": RECORDS,
        "search_read": RECORDS,
        "search_count": len(RECORDS),
        "fields_get": {"name": {"type": "char"}},
        "create": 4,
    }
    return answers.get(action, True)


def main() -> None:
    """Serves until SIGTERM."""
    mode = os.environ.get("STUB_MODE") or "normal"
    if mode not in MODES:
        raise SystemExit(f"STUB_MODE: one of {', '.join(MODES)}")
    stub = Stub(int(os.environ.get("STUB_PORT") or 8069))
    serve(int(os.environ.get("STUB_CONTROL_PORT") or 8070), stub, public=False)
    stub.switch(mode)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
