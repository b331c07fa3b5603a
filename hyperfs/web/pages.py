"""Our own pages: templates filled in, under a policy by which a browser loads nothing that is not ours.

The rule: templates escape everything; what a page may load is written here, once.
"""

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

from hyperfs.text import count_text, size_text, time_text
from hyperfs.web.sites import Site

_TEMPLATES: Final = Environment(
    loader=PackageLoader("hyperfs.web"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"size": size_text, "time": time_text, "count": count_text}


def page(template: str, site: Site, values: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> HTMLResponse:
    """Return the page that ``template`` makes of ``values`` for a site."""
    home = Site(port=site.port).origin
    text = _TEMPLATES.get_template(template).render(values, site=site, home=home, assets=f"{home}/assets")
    policy = (
        f"default-src 'none'; style-src {home}; script-src {home}; img-src 'self' {home}; media-src 'self'; "
        "frame-src 'self'; connect-src 'self'; form-action 'self' http://localhost:* http://*.localhost:*; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Cache-Control": "private, no-cache"}
    return HTMLResponse(text, status, headers)


def path_link(path: str, **query: str) -> str:
    """Return the address of a path of the drive on its own site."""
    return "/" + quote(path) + (f"?{urlencode(query)}" if query else "")
