"""The HTTP interface: paths, their schema, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Route

from recbole_hstu import __version__
from recbole_hstu.service import messages as m
from recbole_hstu.service.batcher import Batcher
from recbole_hstu.service.docs_page import docs_page
from recbole_hstu.service.guard import Guard
from recbole_hstu.service.json_body import StrictRoute
from recbole_hstu.service.metrics import Metrics
from recbole_hstu.service.served_model import ServedModel, add_events
from recbole_hstu.support.errors import InputError

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/elements.js": ("elements.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
    "/questions.js": ("questions.js", "text/javascript"),
}
# Without a token: the page asks for one, and a balancer has none.
_OPEN_PATHS = (*_PAGE, "/docs", "/openapi.json", "/healthz")
_BODY = (401, 408, 409, 413, 415, 422, 429, 503)
# Longer words of an error only repeat what was sent.
_MAX_DETAIL = 400


def make_app(
    models: Sequence[ServedModel], *, token: str | None = None, max_waiting: int = 64
) -> Guard:
    """The service of these models as an ASGI application; the first one is the default.

    Args:
        token: that clients must send as `Authorization: Bearer ...`.
        max_waiting: requests at work at once, beyond which the answer is 429.
    """
    metrics = Metrics(models)
    batcher = Batcher(metrics.batch.observe)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)  # meanwhile answers are sent

    app = FastAPI(
        title="recbole_hstu",
        version=__version__,
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=_PROBLEMS,
    )
    # `Guard` checks the token; this says in the schema who wants it.
    says = [Security(HTTPBearer(auto_error=False))] if token else []
    guarded = APIRouter(route_class=StrictRoute, dependencies=[Depends(_known_query), *says])
    by_name = {model.name: model for model in models}
    _add_answers(guarded, by_name, batcher)
    _add_lookups(guarded, by_name, metrics)
    app.include_router(guarded)
    _add_pages(app)
    routes = [route for route in (*guarded.routes, *app.routes) if isinstance(route, Route)]
    return Guard(
        app,
        routes=routes,
        token=token,
        open_paths=_OPEN_PATHS,
        max_waiting=max_waiting,
        metrics=metrics,
    )


def _add_answers(app: APIRouter, models: dict[str, ServedModel], batcher: Batcher) -> None:
    """What the models compute."""

    @app.post("/recommend", response_model=m.Recommended, responses=m.problems(404, *_BODY))
    async def recommend(asked: m.Recommend) -> Response:
        """The best items after a history, at a time."""
        return _json(await batcher.ask(_find(models, asked.model).recommend, asked))

    @app.post("/events", response_model=m.Added, responses=m.problems(*_BODY))
    async def events(asked: m.AddEvents) -> Response:
        """More events of a user, whom `users` of /recommend then names."""
        return _json(await batcher.ask_alone(add_events, list(models.values()), asked))

    @app.post("/contributions", response_model=m.Contributions, responses=m.problems(404, *_BODY))
    async def contributions(asked: m.Explain) -> Response:
        """What each event contributes to the scores of items: it is left out once."""
        return _json(await batcher.ask_alone(_find(models, asked.model).explain, asked))

    @app.get(
        "/similar/{item:path}",
        response_model=m.Similar,
        responses=m.problems(401, 404, 409, 422, 429, 503),
    )
    async def similar(
        item: Annotated[str, Path(min_length=1, max_length=256)],
        k: Annotated[int, Query(ge=1, le=m.MAX_K)] = 10,
        model: Annotated[str | None, Query(max_length=256)] = None,
    ) -> Response:
        """The items whose vectors are most like this item's (cosine)."""
        found = _find(models, model)
        if not found.knows(item):
            raise HTTPException(404, _shortened(f"no item {item}"))
        return _json(await batcher.ask_alone(found.similar, item, k))


def _add_lookups(app: APIRouter, models: dict[str, ServedModel], metrics: Metrics) -> None:
    """What is known without a computation."""

    @app.get("/models", response_model=m.Models, responses=m.problems(401, 422, 429))
    def list_models() -> Response:
        """The models that are served, the default first."""
        return _json({"models": [model.described() for model in models.values()]})

    @app.get(
        "/items",
        response_model=m.FoundItems,
        responses=m.problems(401, 404, 422, 429),
    )
    def items(
        query: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=50)] = 20,
        model: Annotated[str | None, Query(max_length=256)] = None,
    ) -> Response:
        """Items whose token or title holds every word of the query."""
        return _json({"items": _find(models, model).search(query, limit)})

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **m.problems(401, 422, 429)},
    )
    def read_metrics() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_pages(app: FastAPI) -> None:
    """What needs no token."""

    @app.head("/healthz", include_in_schema=False)  # monitors and balancers ask so
    @app.get("/healthz", response_model=m.Health)
    async def healthz() -> Response:
        """Whether the service answers."""
        return _json({"status": "ok"})

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

    folder = files("recbole_hstu.service") / "page"
    for path, (name, media_type) in _PAGE.items():
        page = Response((folder / name).read_bytes(), media_type=f"{media_type}; charset=utf-8")
        methods = ["GET", "HEAD"]
        app.add_api_route(path, partial(_page, page), methods=methods, include_in_schema=False)


def _page(page: Response) -> Response:
    return page


async def _known_query(request: Request) -> None:
    """A misspelt parameter must not be passed over; of one given twice nobody knows which counts.

    Raises:
        RequestValidationError: there is one.
    """
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known or given.count(name) > 1:
            names = ", ".join(known) or "none"
            msg = "is given twice" if name in known else f"unknown; known are {names}"
            wrong = {"type": "extra_forbidden", "loc": ("query", name), "msg": msg}
            raise RequestValidationError([wrong])


def _find(models: dict[str, ServedModel], name: str | None) -> ServedModel:
    found = next(iter(models.values())) if name is None else models.get(name)
    if found is None:
        raise HTTPException(404, _shortened(f"no model {name}; GET /models names them"))
    return found


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": _shortened(str(error))}, 409)


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong, without FastAPI's copy of what was sent, which may be
    something that no JSON can hold."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if request.method == "POST" and kind.lower() != "application/json":
        return JSONResponse({"detail": "the body must be application/json"}, 415)
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    kind = first.get("type")
    if kind == "json_invalid":
        place = first["loc"][1] + 1
        return JSONResponse({"detail": f"the body is no JSON, at character {place}"}, 422)
    # One with a bracket is a type inside pydantic, or a field that nobody knows.
    parts = [p for p in map(str, first["loc"]) if "[" not in p or kind == "extra_forbidden"]
    where = ".".join(parts)
    return JSONResponse({"detail": _shortened(f"{where}: {first['msg']}")}, 422)


async def _unreadable(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's 400, of a body that is no text, or too deep or too long a number to be read."""
    detail = "the body cannot be read; send JSON in UTF-8, not deep, without very long numbers"
    return JSONResponse({"detail": detail}, 422)


_PROBLEMS: dict[Any, Any] = {
    InputError: _refused,
    RequestValidationError: _malformed,
    400: _unreadable,
}


def _shortened(detail: str) -> str:
    plain = detail.encode("utf-8", "replace").decode("utf-8")
    return plain if len(plain) <= _MAX_DETAIL else f"{plain[:_MAX_DETAIL]}..."
