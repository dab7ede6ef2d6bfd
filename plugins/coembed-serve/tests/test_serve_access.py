"""Who may ask, and which files may be shown."""

from __future__ import annotations

import pytest

from coembed import Space
from coembed_serve.app import make
from coembed_serve.library import open_library
from coembed_serve.settings import Settings

TOKEN = "a-long-enough-token"


def test_beyond_this_machine_a_token_is_needed():
    with pytest.raises(ValueError, match="needs a token"):
        Settings(host="0.0.0.0")
    assert Settings(host="::1").loopback and not Settings(host="shop.example", token=TOKEN).loopback


def test_without_the_token_nothing_of_the_space_is_told(serve):
    client = serve(host="0.0.0.0", token=TOKEN)
    closed = ["/api/towers", "/api/map", "/api/map/points", "/metrics", "/openapi.json", "/api/items/text?id=text/0"]
    for path in closed:
        answer = client.get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", path
    assert client.post("/api/search", json={"tower": "text", "text": "a"}).status_code == 401
    assert client.get("/health").status_code == client.get("/").status_code == 200
    for wrong in ("", TOKEN[:-1], TOKEN + "x", "ü"):
        header = f"Bearer {wrong}".encode()
        assert client.get("/api/towers", headers={b"Authorization": header}).status_code == 401
    assert client.get("/api/towers", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_page_gets_a_cookie_for_the_token(serve):
    client = serve(host="0.0.0.0", token=TOKEN)
    assert client.post("/api/login", json={"token": "wrong"}).status_code == 401
    answer = client.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert client.get("/api/towers").status_code == 200  # the client sends it
    client.cookies.clear()
    client.cookies.set("coembed", TOKEN)  # the token itself is no cookie
    assert client.get("/api/towers").status_code == 401


def test_guessing_the_token_is_slow(serve):
    client = serve(host="0.0.0.0", token=TOKEN, rate=60)
    codes = [client.post("/api/login", json={"token": str(at)}).status_code for at in range(4)]
    assert codes[0] == 401 and codes[-1] == 429
    assert int(client.post("/api/login", json={"token": "x"}).headers["retry-after"]) >= 1


def test_a_foreign_name_or_page_is_refused(client, serve):
    assert client.get("/api/towers", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/api/towers", headers={"Host": "localhost:8765"}).status_code == 200
    assert client.get("/api/towers", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link to the page
    named = serve(hosts=frozenset({"shop.example"}))
    assert named.get("/api/towers", headers={"Host": "shop.example"}).status_code == 200


def test_a_browser_is_told_to_load_nothing_from_elsewhere(client):
    for path in ("/", "/api/towers", "/static/app.js"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_names_no_other_host_and_has_no_script_in_it(client):
    page = client.get("/").text
    assert "http://" not in page and "https://" not in page and "onclick" not in page and "<style" not in page
    assert page.count("<script") == 1 and 'src="static/app.js"' in page


@pytest.fixture
def shelf(shop, tmp_path):
    """Makes a server whose one index names the given paths."""

    def made(paths, *media):
        space = Space.load(shop / "space")
        items = [str(path) for path in paths]
        index = space.index("text", items, ids=items, payloads=[{"path": str(path)} for path in paths])
        index.save(tmp_path / "index")
        library = open_library(space, shop / "space", [str(tmp_path / "index")])
        return make(library, Settings(media=media, layout="pca")).state.serving

    return made


def test_only_files_of_allowed_folders_are_shown(shelf, shop, tmp_path):
    media = shop / "media"
    inside = sorted(media.glob("*.png"))[0]
    outside = shop / "secret.png"
    link = media / "link.png"
    link.symlink_to(outside)
    try:
        paths = [
            inside,
            f"../media/{inside.name}",  # from the space's folder
            inside.name,  # from the allowed folder
            outside,
            "../secret.png",
            f"{media}/../secret.png",
            link,
            "/etc/passwd",
            "..",
            media,
            "x\0.png",
        ]
        serving = shelf(paths, media)
        text = serving.library.shelves["text"]
        shown = [serving.media.file({"path": str(path)}, text.folder) for path in paths]
        assert shown[:3] == [inside.resolve()] * 3 and not any(shown[3:])
    finally:
        link.unlink()
    assert shelf([inside]).media.file({"path": str(inside)}, tmp_path) is None  # none was allowed


def test_what_is_no_picture_or_sound_is_never_shown_as_a_page(serve, shop):
    space, evil = Space.load(shop / "space"), shop / "media" / "evil.html"
    evil.write_text("<script>alert(1)</script>")
    try:
        index = space.index("text", ["x"], ids=["x"], payloads=[{"path": str(evil)}])
        index.save(shop / "evil-index")
        client = serve(library=open_library(space, shop / "space", [str(shop / "evil-index")]))
        answer = client.get("/api/media/text", params={"id": "x"})
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["content-security-policy"]
    finally:
        evil.unlink()


def test_paths_in_the_address_lead_nowhere(client):
    for path in ("/static/../settings.py", "/static/%2e%2e/settings.py", "/api/media/..%2f..%2fetc?id=passwd"):
        assert client.get(path).status_code == 404
    assert client.get("/api/media/image", params={"id": "../../secret.png"}).status_code == 404
