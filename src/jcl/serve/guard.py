"""Who may ask: every request is looked at before anything else is done with it.

Its Host has to be this server (a name of somebody else's that leads here is DNS rebinding), a page of another origin
may change nothing, and whoever asks has the token: in `Authorization: Bearer`, in the address of the page (which then
sets a cookie), or, for 3D Slicer, in the path. With the cookie alone nothing is changed without the page's own header.
"""

import hmac
import ipaddress
import platform
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi.responses import JSONResponse, PlainTextResponse

__all__ = ["CSRF", "MONAI", "Access", "Guard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CSRF = "x-jcl-csrf"
MONAI = "/monai/"
SAFE = ("GET", "HEAD")

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer."""

UNKNOWN = "the token is missing or wrong; open the address that `jcl serve` has printed"


@dataclass(frozen=True)
class Access:
    """What is secret, and by which names this server may be called.

    Attributes:
        host: the address that it listens on.
        port: the port.
        token: whoever has it may do everything.
        session: what a browser has instead, as a cookie.
        csrf: what the page sends along with what changes something.
    """

    host: str
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """Its name: browsers do not tell ports apart."""
        return f"jcl-{self.port}"

    @property
    def shown_host(self) -> str:
        """The address as a browser on this machine takes it."""
        wild = self.host in ("0.0.0.0", "::")
        host = "127.0.0.1" if wild else self.host
        return f"[{host}]" if ":" in host else host

    @property
    def address(self) -> str:
        """What is printed: the page, with the token."""
        return f"http://{self.shown_host}:{self.port}/?token={self.token}"

    def knows(self, host: str) -> bool:
        """Whether a Host header may mean this server: an address, or a name of this machine; no other name."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.port or parts.path or parts.query or "@" in host:
            return False
        return name in ("localhost", self.host.lower(), platform.node().lower()) or _is_own_address(name, self.host)


def _is_own_address(name: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback or not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same(one: str, other: str) -> bool:
    """Whether two secrets are the same; it takes as long whatever they have in common."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


class Guard:
    """An application that passes on what may be asked.

    Args:
        app: the one behind.
        access: see there.
    """

    def __init__(self, app: App, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            return  # nothing else is offered: a server that asks for more is told so by its silence
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._foreign(scope, headers) or self._unknown(scope, headers)
        set_cookie = refused is None and self._by_address(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_encoded(HEADERS)]
                if set_cookie:
                    cookie = f"{self.access.cookie}={self.access.session}; Path=/; HttpOnly; SameSite=Strict"
                    message["headers"] += _encoded({"Set-Cookie": cookie})
            await send(message)

        await (refused or self.app)(scope, receive, guarded)  # pyright: ignore[reportArgumentType]

    def _foreign(self, scope: Scope, headers: dict[str, str]) -> App | None:
        """The answer to a request of another site."""
        if len([1 for name, _ in scope["headers"] if name == b"host"]) != 1 or not self.access.knows(headers["host"]):
            return _answer(421, "this server does not go by that name; use the address that it printed")
        origin = headers.get("origin")
        changes = scope["method"] not in SAFE
        if changes and origin is not None and origin != f"http://{headers['host']}":
            return _answer(403, "a page of another origin may not ask this")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and (changes or scope["path"] != "/"):
            return _answer(403, "a page of another site may not ask this")
        return None

    def _unknown(self, scope: Scope, headers: dict[str, str]) -> App | None:
        """The answer to somebody without the token."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and same(token.strip(), self.access.token):
            return None
        if scope["path"].startswith(MONAI):
            token, slash, rest = scope["path"].removeprefix(MONAI).partition("/")
            if same(token, self.access.token):
                scope["path"] = f"{MONAI}{rest}" if slash else MONAI
                return None
            return _answer(401, UNKNOWN)
        if self._by_address(scope):
            return None
        if not same(_cookie(headers.get("cookie", ""), self.access.cookie), self.access.session):
            return PlainTextResponse(f"jcl: {UNKNOWN}\n", 401) if scope["path"] == "/" else _answer(401, UNKNOWN)
        if scope["method"] not in SAFE and not same(headers.get(CSRF, ""), self.access.csrf):
            return _answer(403, f"the header {CSRF} is missing or wrong; load the page again")
        return None

    def _by_address(self, scope: Scope) -> bool:
        """Whether this is the page with the token in its address."""
        if scope["path"] != "/" or scope["method"] not in SAFE:
            return False
        found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
        return same(found[0], self.access.token)


def _cookie(text: str, name: str) -> str:
    try:
        found = SimpleCookie(text).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _answer(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status, {"Connection": "close"})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
