"""Scopes of requests under WSGI and ASGI, without an entry in MIDDLEWARE.

Under WSGI a request is what lies between Django's signals request_started and request_finished, in one thread: the
second is sent when the server has closed the response, after streaming. Under ASGI it is one call of the handler,
because what a signal's receiver sets there does not reach the request's own context.
"""

from __future__ import annotations

import functools
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.signals import request_finished, request_started

from pool_doctor.adapters import webserver
from pool_doctor.adapters.patching import Patches
from pool_doctor.recording.recorder import recorder
from pool_doctor.recording.scope import REQUEST_KINDS, Scope, current
from pool_doctor.recording.work import begin, end

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_DISPATCH_UID = "pool_doctor.requests"

_patches = Patches()
_handled: ContextVar[Scope | None] = ContextVar("pool_doctor_handled", default=None)


def install() -> None:
    """Give each request a scope. Doing it twice is doing it once."""
    request_started.connect(_started, weak=False, dispatch_uid=_DISPATCH_UID)
    request_finished.connect(_finished, weak=False, dispatch_uid=_DISPATCH_UID)
    _patches.apply(ASGIHandler, "__call__", _call)
    _patches.apply(BaseHandler, "get_response", _get_response)
    _patches.apply(BaseHandler, "get_response_async", _get_response_async)
    _patches.apply(BaseHandler, "resolve_request", _resolve_request)


def uninstall() -> None:
    """Undo install()."""
    request_started.disconnect(dispatch_uid=_DISPATCH_UID)
    request_finished.disconnect(dispatch_uid=_DISPATCH_UID)
    _patches.undo()


def _before_routing(method: Any) -> str:
    return f"{_method(method)} (no route)"


def _method(method: Any) -> str:
    return method if method in _METHODS else "OTHER"


def _started(*, environ: dict[str, Any] | None = None, **_: Any) -> None:
    if environ is None:  # ASGI
        return
    outer = current.get()
    # A request that is not being handled any more, and whose response was never closed; else a request in a request.
    if outer is not None and outer.kind == "wsgi" and outer is not _handled.get():
        end(outer)
    scope = begin(_before_routing(environ.get("REQUEST_METHOD")), "wsgi")
    try:
        if recorder.threads is None:
            recorder.note_threads(webserver.threads(environ))
        for name in webserver.HEADERS:
            if name in environ:
                scope.queued = webserver.queued(environ[name], time.time())
                break
    except Exception:
        recorder.failed()


def _finished(**_: Any) -> None:
    scope = current.get()
    if scope is not None and scope.kind == "wsgi":
        end(scope)


def _call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def __call__(self: ASGIHandler, scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: N807
        if scope.get("type") != "http":  # Django refuses it
            await original(self, scope, receive, send)
            return
        request = begin(_before_routing(scope.get("method")), "asgi")
        _note_queue(request, scope)
        try:
            await original(self, scope, receive, send)
        finally:
            end(request)

    return __call__


def _note_queue(request: Scope, scope: dict[str, Any]) -> None:
    try:
        for name, value in scope.get("headers", ()):
            if name in webserver.HEADERS_IN_BYTES:
                request.queued = webserver.queued(value.decode("latin-1"), time.time())
                return
    except Exception:
        recorder.failed()


def _get_response(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_response(self: BaseHandler, request: Any) -> Any:
        before = _handled.set(current.get())
        try:
            return original(self, request)
        finally:
            _handled.reset(before)

    return get_response


def _get_response_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def get_response_async(self: BaseHandler, request: Any) -> Any:
        if isinstance(self, ASGIHandler):
            return await original(self, request)
        # The handler of AsyncClient, whose request may be one in a request.
        scope = begin(_before_routing(request.method), "asgi")
        try:
            return await original(self, request)
        finally:
            end(scope)

    return get_response_async


def _resolve_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def resolve_request(self: BaseHandler, request: Any) -> Any:
        match = original(self, request)
        scope = current.get()
        if scope is not None and scope.kind in REQUEST_KINDS:
            try:
                scope.rename(f"{_method(request.method)} {match.route or '/'}")
            except Exception:
                recorder.failed()
        return match

    return resolve_request
