"""An OpenAI-compatible server for tests: answers follow from the pictures' bytes, and every question is counted."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ModelServer(ThreadingHTTPServer):
    """Serves on a free port of the loopback while the context is open.

    Attributes:
        asked: content of a question -> how often it came.
        delay: before each answer [s].
        refuse: status for questions whose answer this function is true of; None: an answer.
    """

    daemon_threads = True

    def __init__(self, delay: float = 0.0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.delay = delay
        self.refuse = lambda answer: None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps(body["messages"][0]["content"], sort_keys=True)
        digest = hashlib.sha256(content.encode()).digest()
        with self.server.lock:
            self.server.asked[digest.hex()] += 1
        time.sleep(self.server.delay)
        answer = f"[(0.{digest[0]:03d}, 0.{digest[1]:03d})]" if digest[2] % 3 else "NOT_VISIBLE"
        status = self.server.refuse(answer) or 200
        reply = {"choices": [{"message": {"content": answer}}]} if status == 200 else {"error": "no"}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@contextmanager
def serving(delay: float = 0.0):
    with ModelServer(delay) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
