"""Errors as answers: JSON for the API, a page for people. A traceback goes to the log, never to the one who asked."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gradwatch.errors import GradwatchError

from ..errors import Fault, Invalid, NotSignedIn, fault_of
from .render import error_page, login_page
from .replies import reply_exact

__all__ = ["add_handlers"]

log = logging.getLogger("gradwatch.server")

_SENTENCES = {
    404: "There is nothing at this address.",
    405: "This address doesn't take that kind of request.",
}


def add_handlers(app: FastAPI) -> None:
    """Makes every error an answer that says what to do."""
    app.add_exception_handler(GradwatchError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


def answer(request: Request, fault: Fault, error: Exception | None = None) -> Response:
    """The fault, in the form that fits the path."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if path.startswith(("/api/", "/healthz", "/readyz", "/metrics")):
        return reply_exact(fault.plain(), fault.status)
    if isinstance(error, NotSignedIn):
        return login_page(request)
    return error_page(request, fault.status, fault.message)


async def _known(request: Request, error: Exception) -> Response:
    fault = fault_of(error)
    if fault.status >= 500:
        log.error("%s %s: %s", request.method, request.scope["path"].split("/s/")[0], fault.message)
    return answer(request, fault, error)


async def _unknown(request: Request, error: Exception) -> Response:
    return answer(request, fault_of(error), error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = _SENTENCES.get(error.status_code, str(error.detail))
    code = "not_found" if error.status_code == 404 else "refused"
    response = answer(request, Fault(error.status_code, code, 1008, True, sentence, {}))
    response.headers.update(error.headers or {})
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields: dict[str, str] = {}
    for problem in error.errors():
        place = [str(part) for part in problem["loc"] if part not in ("query", "body", "path", "header")]
        fields[".".join(place) or "body"] = str(problem["msg"])
    named = ", ".join(f"{name}: {sentence}" for name, sentence in list(fields.items())[:3])
    return answer(request, fault_of(Invalid(f"This cannot be used. {named}"[:500], fields)))
