"""Files of the viewer: the right one, in the shortest form, and none from anywhere else."""

from __future__ import annotations

import gzip
import os

import pytest

from dicom_services.api.static import LoginPage, Site
from tests.gateway import call

PAGE = "<!doctype html><script>window.one = 1</script><div id=root></div>"


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "viewer"
    (home / "plugins").mkdir(parents=True)
    (home / "index.html").write_text(PAGE)
    (home / "app.bundle.0123456789abcdef.js").write_text("let a = 1;")
    (home / "app.bundle.0123456789abcdef.js.br").write_bytes(b"brotli")
    (home / "app.bundle.0123456789abcdef.js.gz").write_bytes(gzip.compress(b"let a = 1;"))
    (home / "app-config.js").write_text("window.config = {};")
    for name in ("a.wasm", "b.mjs", "c.css", "d.json", "e.svg", "f.woff2", "g.bin", "plugins/x.js"):
        (home / name).write_text("x")
    (home / ".secret").write_text("secret")
    (tmp_path / "outside.js").write_text("secret")
    (home / "link.js").symlink_to(tmp_path / "outside.js")
    return home


@pytest.fixture
def site(home):
    return Site(home)


def test_file_is_given_as_it_is(site):
    answer = call(site, "GET", "/app-config.js")
    assert (answer.status, answer.body) == (200, b"window.config = {};")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-length"] == "19"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("identity", None),
        ("", None),
    ],
)
def test_what_was_compressed_before_is_sent_so(site, accepted, encoding):
    asked = {"accept-encoding": accepted}
    answer = call(site, "GET", "/app.bundle.0123456789abcdef.js", asked)
    assert answer.headers.get("content-encoding") == encoding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["content-type"].startswith("text/javascript")


def test_compressed_form_of_an_older_file_is_not_sent(site, home):
    name = "app.bundle.0123456789abcdef.js"
    (home / name).write_text("let a = 2;")
    later = (home / name).stat().st_mtime_ns + 10**9
    os.utime(home / name, ns=(later, later))
    answer = call(site, "GET", f"/{name}", {"accept-encoding": "gzip, br"})
    assert answer.body == b"let a = 2;"
    assert "content-encoding" not in answer.headers


def test_new_build_takes_the_place_of_the_old_one(home, tmp_path):
    (tmp_path / "current").symlink_to(home)
    site = Site(tmp_path / "current")
    assert call(site, "GET", "/app-config.js").status == 200
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "index.html").write_text("new")
    (tmp_path / "swap").symlink_to(tmp_path / "next")
    (tmp_path / "swap").rename(tmp_path / "current")
    assert call(site, "GET", "/").body == b"new"
    assert call(site, "GET", "/app-config.js").status == 404


def test_file_with_a_digest_in_its_name_is_kept_for_ever(site):
    answer = call(site, "GET", "/app.bundle.0123456789abcdef.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/a.wasm", "application/wasm"),
        ("/b.mjs", "text/javascript; charset=utf-8"),
        ("/c.css", "text/css; charset=utf-8"),
        ("/d.json", "application/json"),
        ("/e.svg", "image/svg+xml"),
        ("/f.woff2", "font/woff2"),
        ("/g.bin", "application/octet-stream"),
        ("/plugins/x.js", "text/javascript; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
    ],
)
def test_kind_of_a_file_follows_from_its_name(site, path, kind):
    assert call(site, "GET", path).headers["content-type"] == kind


def test_unchanged_file_is_not_sent_again(site, home):
    tag = call(site, "GET", "/app-config.js").headers["etag"]
    again = call(site, "GET", "/app-config.js", {"if-none-match": f'"other", W/{tag}'})
    assert (again.status, again.body) == (304, b"")
    (home / "app-config.js").write_text("window.config = {a: 1};")
    assert call(site, "GET", "/app-config.js", {"if-none-match": tag}).status == 200


@pytest.mark.parametrize("path", ["/", "/viewer", "/viewer/a/b", "/callback"])
def test_place_within_the_viewer_is_its_page(site, path):
    answer = call(site, "GET", path)
    assert (answer.status, answer.body.decode()) == (200, PAGE)
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/none.js", "/plugins/none.css", "/a.b/c.map"])
def test_file_that_is_not_there_is_no_page(site, path):
    assert call(site, "GET", path).status == 404


@pytest.mark.parametrize(
    "path",
    [
        *("/../outside.js", "/plugins/../../outside.js", "/.secret", "/link.js", "//outside.js"),
        *(
            "/plugins/..\\..\\outside.js",
            "/%2e%2e/outside.js",
            "/a\x00.js",
            "/" + "a" * 5000 + ".js",
        ),
    ],
)
def test_nothing_outside_the_folder_is_ever_given(site, path):
    answer = call(site, "GET", path)
    assert b"secret" not in answer.body
    assert answer.status in (200, 404)


def test_policy_of_the_page_follows_its_scripts(site, home):
    before = call(site, "GET", "/").headers["content-security-policy"]
    (home / "index.html").write_text(PAGE.replace("one = 1", "two = 22"))
    after = call(site, "GET", "/").headers["content-security-policy"]
    assert before != after
    assert before.count("'sha256-") == after.count("'sha256-") == 1


def test_a_worker_may_use_webassembly_as_the_page_may(site, home):
    (home / "worker.js").write_text("self.onmessage = () => {};")
    policy = call(site, "GET", "/worker.js").headers["content-security-policy"]
    assert "script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:" in policy


def test_without_a_viewer_a_person_is_told_so(tmp_path):
    answer = call(Site(tmp_path / "none"), "GET", "/")
    assert answer.status == 503
    assert b"make viewer" in answer.body
    assert call(Site(tmp_path / "none"), "GET", "/app.js").status == 404


def test_login_is_there_without_a_viewer():
    page = call(LoginPage(), "GET", "/login")
    assert page.status == 200
    text = page.body.decode()
    for hook in ("rl-login-name", "rl-login-password", "rl-login-submit", "rl-login-code"):
        assert f'data-cy="{hook}"' in text
    assert "Research use only, not a medical device." in text
    assert call(LoginPage(), "GET", "/login/login.js").status == 200
    assert call(LoginPage(), "GET", "/login/login.css").status == 200
    assert call(LoginPage(), "GET", "/login/../static.py").status == 404
    assert call(LoginPage(), "GET", "/login/none.js").status == 404


def test_login_runs_no_script_in_its_page_and_sends_no_password_in_an_address():
    text = call(LoginPage(), "GET", "/login").body.decode()
    assert '<script src="/login/login.js" defer></script>' in text
    assert text.count("<script") == 1
    assert 'method="post"' in text
    script = call(LoginPage(), "GET", "/login/login.js").body.decode()
    for forbidden in ("localStorage", "sessionStorage", "innerHTML", "document.cookie", "eval"):
        assert forbidden not in script
