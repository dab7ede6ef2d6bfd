"""What the API takes and gives, with examples: the source of its OpenAPI description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Like(BaseModel):
    """An item that is indexed, to search from."""

    index: str = Field(examples=["image"])
    id: str = Field(examples=["pictures/heart.png"])


class Search(BaseModel):
    """A search by a typed item of a tower, or by an item that is indexed (`like`)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"tower": "text", "text": "a red heart", "k": 5},
                {"like": {"index": "image", "id": "pictures/heart.png"}, "to": ["text"], "where": "lang == 'en'"},
            ]
        },
    )
    tower: str | None = Field(None, description="the tower that reads `text`; it is never guessed")
    text: str | None = Field(None, description="an item of a tower that reads strings: text, code, a sequence")
    like: Like | None = None
    to: list[str] = Field([], description="the indexes to search; all if none is named", max_length=64)
    k: int = Field(10, ge=1, description="hits in each index")
    where: str | None = Field(None, description="a filter of payloads", examples=["year > 2020"], max_length=10_000)
    role: str | None = Field(None, description="the prompt of the query, such as query")


class Hit(BaseModel):
    """Something found."""

    id: str = Field(examples=["pictures/heart.png"])
    score: float = Field(examples=[0.61])
    standout: float | None = Field(description="standard deviations above what is usual in this index", examples=[4.2])
    caption: str = Field(examples=["red heart"])
    payload: Any = Field(examples=[{"path": "pictures/heart.png"}])
    point: int | None = Field(description="its number on the map")
    media: str | None = Field(description="where its file is, if it may be shown")
    view: str | None = Field(description="its content as HTML; None: ask `view_at`, if there is one")
    view_at: str | None
    withheld: bool = Field(description="its file is in no folder that the operator allowed")


class Hits(BaseModel):
    """What was found in one index, best first."""

    index: str = Field(examples=["image"])
    tower: str = Field(examples=["image"])
    kind: str = Field(description="what its items are shown as", examples=["image"])
    standout: float | None = Field(description="that of the best hit: indexes come in its order", examples=[4.2])
    hits: list[Hit]


class Results(BaseModel):
    """What a search found."""

    tower: str | None = Field(examples=["text"])
    items: int = Field(description="items in the file that was asked with, of which one was used", examples=[1])
    milliseconds: float = Field(examples=[12.5])
    edition: int = Field(description="of the map in which hits have their points", examples=[1])
    found: list[Hits]


class Item(BaseModel):
    """An item that is indexed."""

    index: str
    tower: str
    kind: str
    id: str
    caption: str
    payload: Any
    point: int | None
    media: str | None
    view: str | None
    view_at: str | None
    withheld: bool


class Login(BaseModel):
    """The token, in exchange for a cookie: pictures and sounds of a page can't send headers."""

    token: str = Field(max_length=1000)


class Trouble(BaseModel):
    """An error (RFC 9457): which item it is about, what came, and what was expected."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["notes.png: got a text file, expected a picture"])
    item: str | None = Field(None, examples=["notes.png"])
    got: str | None = Field(None, examples=["a text file"])
    expected: str | int | float | None = Field(None, examples=["a picture"])
