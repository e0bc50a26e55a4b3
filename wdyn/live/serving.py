"""How does a page reach a browser on this machine, and nobody else?

Anything that runs here can connect to a port of loopback, and any page that a browser shows can send requests there.
So the address holds a secret, the name by which one is called must be that of loopback (a foreign name that is made to
lead here does not pass), and nothing can be asked but a fixed set of names.
"""

from __future__ import annotations

import errno
import hmac
import secrets
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from wdyn.errors import InvalidArgument

ADDRESS: Final = "127.0.0.1"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Reply:
    """What is answered.

    Attributes
    ----------
    body
        The content.
    kind
        Its type, with its encoding.
    policy
        The Content-Security-Policy.
    status
        Whether it is what was asked for.
    """

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    policy: str = _NOTHING
    status: HTTPStatus = HTTPStatus.OK


Routes = Callable[[str], Reply | None]
"""Answers by name, such as ``report``; None for a name that is not known."""


@contextmanager
def serving(routes: Routes, *, port: int = 0) -> Iterator[str]:
    """Serve pages on loopback, as long as the block lasts; give their address, which holds the secret.

    Parameters
    ----------
    routes
        What is answered.
    port
        0 for any that is free.

    Raises
    ------
    InvalidArgument
        The port is taken, or not for everyone.
    """
    token = secrets.token_urlsafe(24)
    try:
        server = _Server(token, routes, port)
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise InvalidArgument(f"Port {port} {reason}. Choose another, or 0 for any that is free") from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="wdyn live server")
    thread.start()
    try:
        yield f"http://{ADDRESS}:{server.server_port}/{token}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    """Listens on loopback alone."""

    daemon_threads = True

    def __init__(self, token: str, routes: Routes, port: int) -> None:
        self._token, self._routes = token.encode(), routes
        super().__init__((ADDRESS, port), _Handler)
        self._hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        if self.server_port == 80:  # which browsers leave out
            self._hosts |= {ADDRESS, "localhost"}

    def server_bind(self) -> None:
        """Take the port, without the look-up of a name that http.server adds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a browser that went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def reply(self, path: str, host: str | None) -> Reply:
        """Answer a request for `path` that called this machine `host`."""
        if host not in self._hosts:
            return _refusal(HTTPStatus.FORBIDDEN)
        token, slash, name = path.partition("?")[0].removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self._token):
            return _refusal(HTTPStatus.FORBIDDEN)
        return (self._routes(name) if slash else None) or _refusal(HTTPStatus.NOT_FOUND)


def _refusal(status: HTTPStatus) -> Reply:
    return Reply(f"{status.value} {status.phrase}\n".encode(), status=status)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    server: _Server
    server_version, sys_version = "wdyn", ""
    timeout = 10.0
    """Seconds that a connection may be silent before it is closed."""

    def do_GET(self) -> None:
        """Answer, as `http.server` asks for it."""
        self._send(self.server.reply(self.path, self.headers.get("Host")))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request, or one of another kind than GET, in our own words."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._send(_refusal(status))

    def _send(self, reply: Reply) -> None:
        self.close_connection = True
        self.send_response(reply.status)
        about = {"Content-Type": reply.kind, "Content-Length": len(reply.body), "Content-Security-Policy": reply.policy}
        if reply.status == HTTPStatus.METHOD_NOT_ALLOWED:
            about["Allow"] = "GET"
        for name, value in {**_HEADERS, **about}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the address holds the secret, and a request a second tells nobody anything."""
