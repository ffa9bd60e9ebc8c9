"""What a client is told when it does not get what it asked for: a status and one line."""

from collections.abc import Mapping

__all__ = ["Refusal"]


class Refusal(Exception):
    """An answer other than what was asked for.

    Args:
        status: of HTTP.
        message: one line: what is wrong, and what to do.
        headers: that go with the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
