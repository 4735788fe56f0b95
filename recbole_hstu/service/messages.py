"""What clients send and get. The limits stand in the schema, so that clients can read them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_BODY = 1 << 18  # bytes
MAX_EVENTS = 4096  # a history
MAX_USERS = 64  # a request
MAX_K = 1000
MAX_LISTED = 1 << 14  # items of all lists of a request
MAX_ITEMS = 4096  # candidates, or items to leave out
MAX_EXPLAINED = 100  # events, each of which is left out once
MAX_TIME = 2**53 - 1  # beyond, not every reader of JSON is exact


def _whole(value: Any) -> Any:
    """5.0 is 5 in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Token = Annotated[str, Field(strict=True, min_length=1, max_length=256)]
Time = Annotated[int, Field(strict=True, ge=-MAX_TIME, le=MAX_TIME), BeforeValidator(_whole)]
# Without a time for models that read none.
Event = tuple[Token, Time] | Token
History = Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS)]
Flag = Annotated[bool, Field(strict=True)]
K = Annotated[int, Field(strict=True, ge=1, le=MAX_K), BeforeValidator(_whole)]
Items = Annotated[list[Token], Field(min_length=1, max_length=MAX_ITEMS)]


class Message(BaseModel):
    """Unknown fields are refused: a misspelt option must not be passed over."""

    model_config = ConfigDict(extra="forbid")


class Recommend(Message):
    """Histories, or users whose events were sent before."""

    histories: Annotated[list[History], Field(min_length=1, max_length=MAX_USERS)] | None = Field(
        None, description="(item, time) pairs, oldest first; items alone where no time is read"
    )
    users: Annotated[list[Token], Field(min_length=1, max_length=MAX_USERS)] | None = Field(
        None, description="in place of histories: users of POST /events"
    )
    at: Time | Annotated[list[Time], Field(max_length=MAX_USERS)] | None = Field(
        None, description="time of the request, in the unit of the events: one, or one a user"
    )
    k: K = 10
    exclude_seen: Flag = True
    candidates: Items | None = Field(None, description="only these items")
    exclude: Items | None = Field(None, description="none of these items")
    on_unknown: Literal["raise", "ignore"] = "raise"
    model: Token | None = Field(None, description="of GET /models; the first by default")


class AddEvents(Message):
    """All of the events are added, or none."""

    user: Token
    events: History
    on_unknown: Literal["raise", "ignore"] = "raise"


class Explain(Message):
    """Which of these events moved the scores of these items."""

    history: Annotated[list[Event], Field(min_length=1, max_length=MAX_EXPLAINED)]
    items: Annotated[list[Token], Field(min_length=1, max_length=50)]
    at: Time | None = None
    on_unknown: Literal["raise", "ignore"] = "raise"
    model: Token | None = None


class Scored(Message):
    item: str
    title: str | None
    score: float


class Recommended(Message):
    lists: list[list[Scored]] = Field(
        description="best first, in the order of the request; empty where no event is of a known "
        "item"
    )
    unknown: int = Field(description="events of unknown items, which were left out")


class AddedTo(Message):
    model: str
    added: int
    unknown: int = Field(description="events of unknown items, which were left out")
    kept: int = Field(description="of the user's last events, these among them, up to max_history")


class Added(Message):
    user: str
    models: list[AddedTo]


class Similar(Message):
    items: list[Scored]


class Contributions(Message):
    contributions: list[list[float] | None] = Field(
        description="an event a row: every item's score with the event minus its score without; "
        "null for an event of an unknown item, and for the only other one"
    )


class Found(Message):
    item: str
    title: str | None


class FoundItems(Message):
    items: list[Found]


class Model(Message):
    name: str
    kind: str
    dataset: str
    items: int
    max_history: int
    needs_time: bool
    time_unit: Literal["s", "ms"] | None
    bytes_a_user: int


class Models(Message):
    models: list[Model]


class Health(Message):
    status: Literal["ok"]


class Problem(Message):
    detail: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for its schema."""
    return {status: {"model": Problem, "description": _PROBLEMS[status]} for status in statuses}


_PROBLEMS = {
    401: "No bearer token, or another one",
    404: "No such item or model",
    408: "The body did not come in time",
    409: "Well formed, but not to be answered: an unknown item, times out of order",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "Not of the form of the schema",
    429: "Too many requests wait; try again",
    503: "The service stops, and has not answered this",
}
