"""The web server: the page, a live stream of the fleet for the page, and ``/metrics``.

```
GET /                 the page, which loads nothing from other hosts
GET /api/stream       server-sent events: first the event `fleet` (the snapshot without layers),
                      then an event `change` each second
GET /api/snapshot     the JSON document of `mqtt-monitor --once --json`
GET /api/history      the last hour of one value of a board or of a deployment's stages
GET /api/layers       the layers of a stage, and the constants of wrapped operations
GET /metrics          the metrics for Prometheus
GET, POST /login      the login form, if the server has a password
```

If the page loses its connection, it opens a new stream, which starts with `fleet` again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from importlib import resources
from typing import TYPE_CHECKING, Any

from aiohttp import web

from mqtt_monitor.exports.metrics import render
from mqtt_monitor.feeds.recording import ReplayFeed
from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.fleet.describe_fleet import describe_fleet
from mqtt_monitor.fleet.fleet_changes import describe_changes
from mqtt_monitor.fleet.limits import MAX_EVENTS, MAX_REQUESTS
from mqtt_monitor.fleet.thresholds import PLAN_MARGIN
from mqtt_monitor.listen_error import ListenError
from mqtt_monitor.web.access import SESSION_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler, Middleware

    from edge_core.program.listen_address import ListenAddress
    from mqtt_monitor.feeds.feed import Feed
    from mqtt_monitor.fleet.snapshot import Fleet
    from mqtt_monitor.web.access import Access

#: Time between two messages of a stream, in seconds.
_TICK_S = 1.0
#: The most pages that may be open at the same time.
_MAX_STREAMS = 32
#: The most requests with a wrong password that may wait for their answer at the same time.
_MAX_GUESSES = 20
#: Time from a wrong password to its answer, in seconds, so that guessing takes long.
_GUESS_S = 1.0
_MAX_LOGIN_BYTES = 4096
#: The most stages in one request for histories.
_MAX_HISTORIES = 12
_COOKIE = "mqtt-monitor"
_PUBLIC = frozenset({"/login", "/monitor.css"})
_STATIC = {
    "/": ("monitor.html", "text/html"),
    "/monitor.css": ("monitor.css", "text/css"),
    "/monitor.js": ("monitor.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
    "/dom.js": ("dom.js", "text/javascript"),
}
#: Numbers that the server writes into the page's files, by the placeholder that each replaces.
_NUMBERS = {
    "{{max_requests}}": str(MAX_REQUESTS),
    "{{max_events}}": str(MAX_EVENTS),
    "{{plan_percent}}": f"{100 * PLAN_MARGIN:.0f}",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Server": "mqtt-monitor",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Without this header a browser could keep a script of another version of the server, which
    # cannot read this version's stream.
    "Cache-Control": "no-store",
}


async def serve_page(
    feed: Feed,
    listen: ListenAddress,
    access: Access,
    *,
    ended: asyncio.Event,
    on_listening: Callable[[str], None],
) -> None:
    """Serve the page until ``ended`` is set.

    Args:
        feed: The feed to show.
        listen: The address to listen on.
        access: Decides who may see the page.
        ended: When this event is set, the server and its open streams end.
        on_listening: Called with the page's URL when the server has begun to listen.

    Raises:
        ListenError: The server cannot listen on the address.
    """
    app = make_app(feed, access, ended)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host, listen.port)
        try:
            await site.start()
        except OSError as error:
            raise ListenError(listen.host, listen.port, error, "with --listen") from None
        on_listening(f"http://{listen.with_port(runner.addresses[0][1])}/")
        await ended.wait()
    finally:
        await runner.cleanup()


def make_app(feed: Feed, access: Access, ended: asyncio.Event) -> web.Application:
    """Return the web application, which does not listen yet.

    Args:
        feed: The feed to show.
        access: Decides who may see the page.
        ended: When this event is set, open streams end.
    """
    guesses = _Guesses()
    handlers = _Handlers(feed, access, guesses, ended)
    app = web.Application(
        middlewares=[_guard(access, guesses), _plain_errors], client_max_size=_MAX_LOGIN_BYTES
    )
    app.add_routes(
        [
            *(web.get(path, _static(*names)) for path, names in _STATIC.items()),
            web.get("/api/stream", handlers.stream),
            web.get("/api/snapshot", handlers.snapshot),
            web.get("/api/history", handlers.history),
            web.get("/api/layers", handlers.layers),
            web.get("/metrics", handlers.metrics),
            web.get("/login", handlers.login_form),
            web.post("/login", handlers.login),
        ]
    )

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)

    app.on_response_prepare.append(add_headers)
    return app


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Replace aiohttp's error pages, which show aiohttp's version, with short texts."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < web.HTTPBadRequest.status_code:
            raise
        return web.Response(status=error.status, text=f"{error.reason}\n")


class _Guesses:
    """Delays the answer to each wrong password, and limits the number of answers that wait."""

    def __init__(self) -> None:
        self._waiting = 0

    def are_too_many(self) -> bool:
        return self._waiting >= _MAX_GUESSES

    async def wait(self) -> None:
        self._waiting += 1
        try:
            await asyncio.sleep(_GUESS_S)
        finally:
            self._waiting -= 1


def _guard(access: Access, guesses: _Guesses) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not access.knows_host(request.headers.get("Host")):
            text = (
                "The host name in the page's URL is not a name of this server. Use the server's IP "
                "address in the URL, or start the server with --host-name NAME.\n"
            )
            return web.Response(status=421, text=text)
        if access.token is None or request.path in _PUBLIC:
            return await handler(request)
        cookie = request.cookies.get(_COOKIE)
        if cookie is not None and access.is_session(cookie, time.time()):
            return await handler(request)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if guesses.are_too_many():
                return web.Response(
                    status=429, text="Too many wrong passwords. Try again in a few seconds.\n"
                )
            if access.is_token(given.strip()):
                return await handler(request)
            await guesses.wait()
        if request.path == "/":
            raise web.HTTPSeeOther("/login")
        return web.Response(
            status=401,
            text="This server needs a password.\n",
            headers={"WWW-Authenticate": 'Bearer realm="mqtt-monitor"'},
        )

    return guard


def _read_static(name: str) -> bytes:
    return resources.files(__package__).joinpath("static", name).read_bytes()


def _static(name: str, content_type: str) -> Handler:
    body = _read_static(name).decode()
    for place, value in _NUMBERS.items():
        body = body.replace(place, value)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type=content_type, charset="utf-8")

    return handler


class _Handlers:
    """Answers the HTTP requests to one server."""

    def __init__(self, feed: Feed, access: Access, guesses: _Guesses, ended: asyncio.Event) -> None:
        self._feed = feed
        self._access = access
        self._ended = ended
        self._streams = 0
        self._guesses = guesses
        self._login_page = _read_static("login.html").decode()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if self._streams >= _MAX_STREAMS:
            raise web.HTTPServiceUnavailable
        self._streams += 1
        self._feed.watch_requests(wanted=True)
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        try:
            await response.prepare(request)
            before: Fleet | None = None
            while not self._ended.is_set():
                now, data = await asyncio.to_thread(self._next, before)
                kind = "fleet" if before is None else "change"
                # This line waits for a slow reader, which then gets one larger change.
                await response.write(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
                before = now
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), _TICK_S)
        except ConnectionResetError:
            pass  # The page was closed.
        finally:
            self._streams -= 1
            if not self._streams:
                self._feed.watch_requests(wanted=False)
        return response

    def _next(self, before: Fleet | None) -> tuple[Fleet, bytes]:
        now = self._feed.snapshot()
        document = describe_changes(before, now)
        if before is None:
            document["recorded"] = isinstance(self._feed, ReplayFeed)
        return now, _json(document)

    async def snapshot(self, _: web.Request) -> web.Response:
        def body() -> bytes:
            fleet = self._feed.snapshot()
            return _json(describe_fleet(fleet, find_alerts(fleet), with_layers=True))

        response = web.Response(body=await asyncio.to_thread(body), content_type="application/json")
        response.enable_compression()
        return response

    async def history(self, request: web.Request) -> web.Response:
        """Answer with the last hour of one value, either of one board or of each of several stages.

        The query is ``?device=NAME&figure=F`` or ``?deployment=NAME&stage=0&stage=1&figure=F``. The
        optional parameter ``step_s`` is the width of the steps into which the hour is divided, from
        5 to 600 s.
        """
        query = request.query
        try:
            step_s = float(query.get("step_s", "60"))
            stages = [int(text) for text in query.getall("stage", [])[:_MAX_HISTORIES]]
        except ValueError:
            raise web.HTTPBadRequest from None
        if not math.isfinite(step_s) or any(index < 0 for index in stages):
            raise web.HTTPBadRequest
        step_s = min(max(step_s, 5.0), 600.0)
        figure = query.get("figure", "")

        def body() -> bytes:
            if "device" in query:
                series = [self._feed.device_history(query["device"], figure, step_s)]
            else:
                name = query.get("deployment", "")
                series = [self._feed.stage_history(name, index, figure, step_s) for index in stages]
            return _json({"at_s": self._feed.now_s(), "step_s": step_s, "series": series})

        return web.Response(body=await asyncio.to_thread(body), content_type="application/json")

    async def layers(self, request: web.Request) -> web.Response:
        """Answer with the layers of a stage; an unknown stage has no layers.

        The query is ``?deployment=NAME&stage=0``.
        """
        deployment = self._feed.snapshot().deployments.get(request.query.get("deployment", ""))
        lines: tuple[str, ...] = ()
        more = 0
        for stage in deployment.stages if deployment is not None else ():
            if str(stage.index) == request.query.get("stage"):
                lines, more = stage.contents, stage.more_layers
        body = _json({"layers": lines, "more": more})
        return web.Response(body=body, content_type="application/json")

    async def metrics(self, _: web.Request) -> web.Response:
        body = await asyncio.to_thread(render, self._feed)
        return web.Response(body=body, content_type="text/plain", charset="utf-8")

    async def login_form(self, _: web.Request) -> web.Response:
        if self._access.token is None:
            raise web.HTTPSeeOther("/")
        return self._login("")

    async def login(self, request: web.Request) -> web.Response:
        form = await request.post()
        # This check comes after the form has arrived. Before it, many slow forms could all pass.
        if self._guesses.are_too_many():
            raise web.HTTPTooManyRequests
        if not self._access.is_token(str(form.get("password", ""))):
            await self._guesses.wait()
            return self._login("Wrong password.")
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            _COOKIE,
            self._access.session(time.time()),
            max_age=SESSION_S,
            httponly=True,
            samesite="Strict",
        )
        return response

    def _login(self, problem: str) -> web.Response:
        return web.Response(
            status=401 if problem else 200,
            text=self._login_page.replace("{{problem}}", problem),
            content_type="text/html",
        )


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
