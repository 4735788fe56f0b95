"""Bodies in which no key stands twice: FastAPI would take the last one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException, Request
from fastapi.routing import APIRoute

from recbole_hstu.support.errors import InputError
from recbole_hstu.support.json_text import each_once


class _StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return json.loads(await self.body(), object_pairs_hook=each_once)
        except InputError as error:
            raise HTTPException(422, f"body: {error}") from error


class StrictRoute(APIRoute):
    """A route that refuses a body with a key that stands twice in one object (422)."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        answer = super().get_route_handler()

        async def read_strictly(request: Request) -> Any:
            return await answer(_StrictRequest(request.scope, request.receive))

        return read_strictly
