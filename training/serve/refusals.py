"""What the server says no with: a status, a sentence, and the field it is about, in OpenAI's shape of an error."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sparring.scenarios.errors import SparringError

KINDS = {
    400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
    409: "ConflictError", 413: "RequestTooLargeError", 429: "RateLimitError", 501: "NotImplementedError",
    503: "ServiceUnavailableError",
}  # fmt: skip
GONE = 499  # nobody reads it; the number nginx writes for it
LARGEST = 32 << 20  # bytes of a body that are read
Shape = TypeVar("Shape", bound=BaseModel)
Route = Callable[[Request], Awaitable[Response]]


class Refusal(Exception):
    """A request that is not served. ``field`` names what is wrong in its body."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.field = status, message, field

    def response(self) -> Response:
        """As OpenAI and vLLM lay it out."""
        return failure(self.status, self.message, self.field)


def failure(status: int, message: str, field: str | None = None) -> Response:
    """The body of an HTTP error."""
    kind = KINDS.get(status, "InternalServerError")
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    error = {"message": message, "type": kind, "param": field, "code": status}
    return JSONResponse({"error": error}, status, headers)


def guarded(route: Route) -> Route:
    """The border of a route: whatever is raised on purpose becomes an answer that says so."""

    async def answer(request: Request) -> Response:
        try:
            return await route(request)
        except Refusal as refusal:
            return refusal.response()
        except ClientDisconnect:
            return failure(GONE, "the client hung up")
        except SparringError as error:
            return failure(500, str(error))

    return answer


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object a request carries; nothing at all is an empty one. Raises ``Refusal``."""
    if int(request.headers.get("content-length") or 0) > LARGEST:
        raise Refusal(413, f"the body is larger than {LARGEST} bytes")
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > LARGEST:
            raise Refusal(413, f"the body is larger than {LARGEST} bytes")
    try:
        found = json.loads(raw or b"{}", parse_constant=_odd)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise Refusal(400, "the body must be a JSON object")
    return found


def _odd(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def read(shape: type[Shape], body: dict[str, Any]) -> Shape:
    """The body as ``shape``. Raises ``Refusal`` naming the first field that is wrong."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refusal(400, f"{place or 'the body'}: {first['msg']}", place or None) from error
