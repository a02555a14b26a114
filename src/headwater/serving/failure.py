"""What a client is told when something is wrong: a status, and one sentence in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any


class Refusal(Exception):
    """A request that is not answered; the client is told why.

    param: the field at fault, as `messages[0].role`. code: the kind of mistake, for programs.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after
        """Seconds after which it may be tried again."""

    @property
    def body(self) -> dict[str, Any]:
        """The answer's body."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers beside the usual ones."""
        found = {"retry-after": str(self.retry_after)} if self.retry_after is not None else {}
        return found | ({"www-authenticate": "Bearer"} if self.status == 401 else {})

    def encoded(self) -> bytes:
        """The body in JSON."""
        return json.dumps(self.body, ensure_ascii=False).encode()


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


def busy(seconds: int) -> Refusal:
    """The queue is full."""
    return Refusal(429, "Too many requests are waiting: try again later.", None, "queue_full", seconds)


def stopping() -> Refusal:
    """The server is about to end."""
    return Refusal(503, "The server is stopping.", None, "stopping", 5)


def gone() -> Refusal:
    """The model was taken back while the request was on its way."""
    return Refusal(404, "This model is no longer served here: /v1/models tells which are.", "model", "model_not_found")


def broken() -> Refusal:
    """A mistake of ours, which the log tells."""
    return Refusal(503, "The model failed at this request; the server's log says how.", None, "model_failed", 1)
