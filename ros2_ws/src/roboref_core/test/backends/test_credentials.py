"""API keys: read where they are kept, shown nowhere."""

from __future__ import annotations

import json
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from roboref_core.errors import ReferError
from roboref_core.models.http.credentials import checked_url, read_api_key
from roboref_core.models.http.openai_compatible import OpenAICompatible
from roboref_core.models.registry import load_model
from roboref_core.models.vision_language_model import Prompt

KEY = "sk-very-secret"


class Echo(BaseHTTPRequestHandler):
    """Repeats the key in its error, as some servers do."""

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"error": {"message": f"Incorrect API key: {self.headers['Authorization']}"}}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_keys_come_from_the_environment_or_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("A_KEY", KEY)
    (tmp_path / "key").write_text(f"{KEY}\n")
    for key in (read_api_key("A_KEY"), read_api_key(file=str(tmp_path / "key"))):
        assert key.headers == {"Authorization": f"Bearer {KEY}"}
        assert KEY not in f"{key} {key!r} {vars(key.__class__)}"
        with pytest.raises(TypeError):
            pickle.dumps(key)
    assert not read_api_key() and read_api_key().headers == {}


def test_keys_that_cannot_be_used_are_refused_without_being_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("A_KEY", f"{KEY}\nX-Other: header")
    monkeypatch.delenv("NO_KEY", raising=False)
    (tmp_path / "empty").write_text("\n")
    for arguments in (("A_KEY", ""), ("NO_KEY", ""), ("", str(tmp_path / "empty")), ("", "/nowhere"), ("A_KEY", "x")):
        with pytest.raises(ValueError, match=r"API key") as error:
            read_api_key(*arguments)
        assert KEY not in str(error.value)


@pytest.mark.parametrize("url", [f"http://user:{KEY}@host/v1", f"https://host/v1?key={KEY}", f"ftp://u:{KEY}@host"])
def test_urls_with_secrets_are_refused_without_being_shown(url):
    with pytest.raises(ValueError) as error:
        checked_url(url)
    assert KEY not in str(error.value)


def test_a_key_is_in_no_error_name_or_representation(monkeypatch):
    monkeypatch.setenv("A_KEY", KEY)
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        model = OpenAICompatible(url, "vlm", "normalised", api_key_env="A_KEY")
        with pytest.raises(ReferError, match=r"Bearer \*\*\*") as error:
            model.generate(Prompt("x"))
        server.shutdown()
    assert KEY not in f"{error.value!r} {model.name} {model!r} {vars(model)} {vars(model._server)}"


def test_a_key_is_no_option():
    with pytest.raises(ValueError, match="api_key_env=VARIABLE") as error:
        load_model("openai", url="http://x", model="m", convention="gemini", api_key=KEY)
    assert KEY not in str(error.value)
