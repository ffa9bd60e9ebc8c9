"""Who may ask: tokens, cookies, names of the server, and pages of others."""

import pytest

from jcl.serve.guard import CSRF, Access
from support.serving import PORT, Served

ROUTES = [
    ("GET", "/"), ("GET", "/static/main.js"), ("GET", "/favicon.ico"), ("GET", "/openapi.json"), ("GET", "/nowhere"),
    ("GET", "/api/run"), ("POST", "/api/jobs?name=a.nii"), ("GET", "/api/jobs/x"), ("DELETE", "/api/jobs/x"),
    ("GET", "/api/jobs/x/result"), ("GET", "/api/jobs/x/image"), ("GET", "/api/jobs/x/classes"),
    ("PUT", "/api/jobs/x/classes"), ("GET", "/api/jobs/x/correction"), ("POST", "/api/jobs/x/keep"),
    ("GET", "/monai/x/info/"), ("GET", "/monai/"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["none", "bearer", "basic", "cookie"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_is_answered_without_the_token(site: Served, method: str, path: str, name: str) -> None:
    headers = {"none": {}, "bearer": {"Authorization": "Bearer x"}, "basic": {"Authorization": "Basic x"}}
    headers["cookie"] = {"Cookie": f"jcl-{PORT}=x"}
    answer = site.make_client(headers[name]).request(method, path)
    assert answer.status_code == 401
    assert "open the address" in answer.text
    assert "set-cookie" not in answer.headers


def test_every_route_is_in_that_list(site: Served) -> None:
    paths = site.client.get("/openapi.json").json()["paths"]
    listed = {(method, path.partition("?")[0].replace("/x", "/{number}")) for method, path in ROUTES}
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert {each for each in known if not each[1].startswith("/monai")} <= listed


def test_the_address_gives_a_cookie_that_scripts_and_other_sites_do_not_get(site: Served) -> None:
    client = site.make_client()
    answer = client.get(site.access.address)
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert site.access.token not in cookie
    assert client.get("/api/run").status_code == 200
    for wrong in ("", "x", site.access.session, site.access.token[:-1]):
        assert site.make_client().get(f"/?token={wrong}").status_code == 401
    assert site.make_client().get(f"/api/run?token={site.access.token}").status_code == 401  # of the page alone


def test_the_cookie_alone_changes_nothing(site: Served) -> None:
    """Cross-site request forgery: the header is known to the page alone."""
    client = site.browser()
    assert client.delete("/api/jobs/x").status_code == 404  # allowed, and none is there
    for wrong in ({CSRF: "x"}, {CSRF: site.access.session}):
        assert client.delete("/api/jobs/x", headers=wrong).status_code == 403
    del client.headers[CSRF]
    assert client.delete("/api/jobs/x").status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"http://127.0.0.1:{PORT + 1}", f"https://127.0.0.1:{PORT}"]
)
def test_a_page_of_another_origin_changes_nothing(site: Served, origin: str) -> None:
    answer = site.browser().delete("/api/jobs/x", headers={"Origin": origin})
    assert answer.status_code == 403
    assert site.browser().delete("/api/jobs/x", headers={"Origin": f"http://127.0.0.1:{PORT}"}).status_code == 404


@pytest.mark.parametrize("origin", ["cross-site", "same-site"])
def test_what_another_site_embeds_is_not_answered(site: Served, origin: str) -> None:
    client = site.browser()
    assert client.get("/api/run", headers={"Sec-Fetch-Site": origin}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": origin}).status_code == 200  # a link that somebody follows
    assert client.get("/api/run", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", f"127.0.0.1.evil.example:{PORT}",
     f"10.0.0.1:{PORT}", f"a@127.0.0.1:{PORT}", "", f"[::1:{PORT}", f"localhost:{PORT}/x", f"127.0.0.1:{PORT}x"],
)  # fmt: skip
def test_names_of_others_that_lead_here_are_not_ours(site: Served, host: str) -> None:
    """DNS rebinding."""
    assert site.client.get("/api/run", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", [f"localhost:{PORT}", f"127.0.0.1:{PORT}", f"[::1]:{PORT}", f"LOCALHOST:{PORT}"])
def test_our_own_names_are(site: Served, host: str) -> None:
    assert site.client.get("/api/run", headers={"Host": host}).status_code == 200


def test_on_all_addresses_each_address_is_ours_and_no_name() -> None:
    access = Access("0.0.0.0", 80)
    assert all(access.knows(host) for host in ("192.168.1.2", "192.168.1.2:80", "localhost"))
    assert not access.knows("evil.example")
    assert access.address.startswith("http://127.0.0.1:80/?token=")
    assert Access("::1", 5).address.startswith("http://[::1]:5/")


def test_every_answer_has_the_policy(site: Served) -> None:
    for client in (site.client, site.make_client()):
        for path in ("/", "/api/run", "/api/jobs/x", "/nowhere", "/static/style.css"):
            headers = client.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'self';")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in headers
            assert "server" not in headers


def test_secrets_are_compared_in_constant_time(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr("jcl.serve.guard.hmac.compare_digest", compare)
    site.make_client({"Authorization": "Bearer x"}).get("/api/run")
    assert site.access.token.encode() in compared
