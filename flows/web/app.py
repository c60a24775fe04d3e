"""The application: pages, their JSON, images and the files of the page itself.

What: `application(store)` gives an ASGI application. Every page of `tamis.flows.web.pages.VIEWS` is had as HTML, and as
JSON at the same address with `.json` behind it; an image at `/images/DATASET/SAMPLE`.
How: nothing is kept between two requests but what was read; no request changes anything, in the store or here. What is
wrong with a request is said on a page of its own, with the status that fits.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.responses import FileResponse
from starlette.routing import Route

from tamis.flows.web.asked import Query
from tamis.flows.web.asking import LEFT
from tamis.flows.web.errors import BadQuestion, Busy, TookTooLong
from tamis.flows.web.guard import LOOPBACK, Application, Guard
from tamis.flows.web.pages import HERE, VIEWS, Pages, View, plain
from tamis.flows.web.site import Site
from tamis.flows.web.thumbnails import SIZES, Thumbnails
from tamis.store.errors import InvalidName, NotFound, QueryError, QueryRefused, SelectionError, TamisError

if TYPE_CHECKING:
    from tamis.store import Store

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404), (InvalidName, 404), (BadQuestion, 400), (QueryRefused, 403), (QueryError, 400),
    (SelectionError, 400), (TookTooLong, 504), (Busy, 503), (TamisError, 500),
)  # fmt: skip
_STATIC = {"style.css": "text/css", "app.js": "text/javascript", "htmx.min.js": "text/javascript", "icon.svg":
           "image/svg+xml"}  # fmt: skip
_LOOK = 0.2  # s between two looks at whether the reader is there
_KEPT = "private, max-age=31536000, immutable"


def application(
    store: "Store", *, token: str | None = None, hosts: tuple[str, ...] = LOOPBACK, prefect: str | None = None
) -> Application:
    """The page over a store.

    Args:
        store: an open store.
        token: that is asked for; None for none.
        hosts: names under which it is served; () for any, which takes a token.
        prefect: address of Prefect's page; None where there is none.
    """
    site, pages = Site(store, Thumbnails(store), prefect), Pages(prefect)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    routes: list[Route] = [
        Route("/static/{name}", _static),
        Route("/images/{ref}/{sample}", lambda request: _image(site, request)),
    ]
    for view in VIEWS:  # the JSON of a page first: a name may end in anything
        routes += [Route(_json_path(view.path), _shown(site, pages, view, as_json=True))]
    routes += [Route(view.path, _shown(site, pages, view, as_json=False)) for view in VIEWS]
    app.router.routes.extend(routes)
    app.add_exception_handler(404, lambda request, _: _failed(pages, request, NotFound("No such page."), 404))
    return Guard(app, () if token and not hosts else hosts, token)


def _json_path(path: str) -> str:
    return "/home.json" if path == "/" else f"{path}.json"


def _shown(site: Site, pages: Pages, view: View, *, as_json: bool) -> Callable[[Request], Awaitable[Response]]:
    def answered(request: Request) -> Response:
        foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
        query = Query(request.query_params.multi_items(), foreign=foreign)
        try:
            values = view.show(site, request.path_params, query)
        except TamisError as error:
            return _failed(pages, request, error, _status(error))
        if as_json:
            return Response(plain(values), media_type="application/json", headers={"cache-control": "no-store"})
        here = {"query": query, "section": view.section, "here": request.url.path, "site_name": _name(site)}
        made = pages.html(view.template, **values, **here)
        return Response(made, media_type="text/html", headers={"cache-control": "no-cache, private"})

    async def show(request: Request) -> Response:
        left = threading.Event()
        LEFT.set(left)
        work = asyncio.create_task(asyncio.to_thread(answered, request))
        while not (await asyncio.wait({work}, timeout=_LOOK))[0]:
            if await request.is_disconnected():
                left.set()  # and the answer, which is an error then, goes nowhere
        return work.result()

    return show


def _failed(pages: Pages, request: Request, error: Exception, status: int) -> Response:
    said = str(error)
    if request.url.path.endswith(".json"):
        body = plain({"error": type(error).__name__, "message": said})
        return Response(body, status, media_type="application/json")
    query, section = request.query_params.get("q", "")[:20_000], "sql" if request.url.path == "/sql" else ""
    values = {"message": said, "status": status, "section": section, "here": request.url.path, "asked": query}
    made = pages.html("error.html", **values, query=Query(request.query_params.multi_items()), site_name="")
    return Response(made, status, media_type="text/html")


def _status(error: Exception) -> int:
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def _image(site: Site, request: Request) -> Response:
    query = Query(request.query_params.multi_items())
    try:
        size = query.whole("size", SIZES[1], SIZES[0], SIZES[-1])
        number = Query([("sample", request.path_params["sample"])]).whole("sample", 0)
        dataset = site.dataset(request.path_params["ref"])
        place = site.thumbnails.places(dataset, [number])[0]
        headers = {"etag": f'"{site.thumbnails.tag(dataset, place, size)}"', "cache-control": _KEPT}
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        made = site.thumbnails.image(dataset, place, size)
    except TamisError as error:
        return Response(str(error), _status(error), media_type="text/plain")
    return Response(made.data, media_type=made.media, headers=headers)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return Response("No such file.", 404, media_type="text/plain")
    return FileResponse(HERE / "static" / name, media_type=_STATIC[name], headers={"cache-control": _KEPT})


def _name(site: Site) -> str:
    """What the store is called: its folder, and the one that is in."""
    return "/".join(site.store.root.url.rstrip("/").split("/")[-2:])
