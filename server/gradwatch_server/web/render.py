"""Templates to pages: boot data, asset addresses, and the headers that pages need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from gradwatch import __version__

from ..services import Services
from .access import Identity, services_of

__all__ = ["base_of", "environment", "error_page", "login_page", "page"]

_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~@:-]+)+")

_TITLES: Final = {
    403: "Not allowed",
    404: "Not found",
    410: "This link has ended",
    422: "That cannot be used",
    429: "Too many requests",
    503: "The database is not available",
}


def environment(folder: Path) -> Environment:
    """The templates of ``folder``; everything put into them is escaped, and what is put in as JSON keeps its order."""
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        auto_reload=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return made


def base_of(request: Request) -> str:
    """The path prefix that browsers see: ``--root-path``, or what the proxy says it has stripped."""
    services = services_of(request)
    if services.config.root_path:
        return services.config.root_path
    prefix = request.headers.get("x-forwarded-prefix", "").rstrip("/")
    return prefix if _PREFIX.fullmatch(prefix) else ""


def page(
    request: Request,
    template: str,
    identity: Identity | None,
    *,
    boot: dict[str, Any] | None = None,
    status: int = 200,
    **context: Any,
) -> Response:
    """A page, never cached. ``boot`` is added to what every page gets."""
    services = services_of(request)
    base, look = base_of(request), services.assets.look()
    plotly = f"{base}/static/plotly-{services.assets.plotly_version}.min.js"
    html = services.templates.get_template(template).render(
        boot={**_boot(services, base, identity), **(boot or {})},
        asset=lambda path: f"{base}/static/{look.version}/{look.place(path)}",
        asset_plotly=lambda: plotly,
        modules=services.assets.modules,
        **{"page": "", "status": status, "unfurl": None, "theme": "", **context},
    )
    headers = {"Content-Security-Policy": _policy(services), "Cache-Control": "no-store"}
    if services.config.frame_ancestors == "'self'":
        headers["X-Frame-Options"] = "SAMEORIGIN"
    return Response(html, status, media_type="text/html", headers=headers)


def login_page(request: Request) -> Response:
    """What somebody sees who is not signed in. Its script spends the code of the address, if there is one."""
    return page(request, "login.html", None, status=401)


def error_page(request: Request, status: int, message: str) -> Response:
    """A sentence, and a way back."""
    known = getattr(request.state, "identity", None)
    return (
        page(
            request,
            "error.html",
            known if isinstance(known, Identity) else None,
            status=status,
            title=_TITLES.get(status, "Something went wrong"),
            message=message,
        )
        if _has_services(request)
        else Response(message, status, media_type="text/plain")
    )


def _has_services(request: Request) -> bool:
    return hasattr(request.app.state, "services")


def _boot(services: Services, base: str, identity: Identity | None) -> dict[str, Any]:
    config = services.config
    session = identity.session if identity else ""
    return {
        "version": __version__,
        "instance": services.instance,
        "base": base,
        "page": services.sessions.page_token(session) if session else "",
        "role": "nobody" if identity is None else "owner" if identity.viewer.may_edit else "viewer",
        "manages": identity is not None and identity.viewer.may_manage,
        "share": "",
        "public": {"url": config.public_url, "local": config.reaches_only_itself},
        "now": services.clock(),
        "revision": services.hub.revision,
        "run": None,
        "view": "",
    }


def _policy(services: Services) -> str:
    """The content security policy. Scripts come from us alone and never stand in the page; Plotly needs inline styles."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        f"frame-ancestors {services.config.frame_ancestors}"
    )
