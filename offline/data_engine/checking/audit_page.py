"""The page of an audit: one sample at a time, judged by keys, served to this machine alone."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from offline.data_engine.checking.audit import Audit
from offline.data_engine.checking.show import STYLE, article

_LARGEST = 10_000
"""Bytes of a request."""
_PAGE = """<!doctype html><meta charset="utf-8"><title>roboref data audit</title><style>%s
kbd{border:1px solid #999;border-radius:3px;padding:0 4px;background:#fff}#where{color:#666}</style>
<p>Is all of it true, and is there one right answer? <kbd>y</kbd> right <kbd>n</kbd> wrong
<kbd>p</kbd> wrong point <kbd>m</kbd> wrong mask <kbd>v</kbd> wrong visibility <kbd>r</kbd> wrong phrase
<kbd>u</kbd> cannot tell <kbd>Backspace</kbd> take back. <span id="where"></span></p><main></main>
<pre id="report"></pre>
<script>
const keys = {y: ["right", ""], n: ["wrong", ""], p: ["wrong", "point"], m: ["wrong", "mask"],
              v: ["wrong", "visibility"], r: ["wrong", "phrase"], u: ["unclear", ""]};
let id = null, busy = false;
async function ask(body) {
  busy = true;
  try {
    const reply = await fetch("/", {method: "POST", headers: {"Content-Type": "application/json"},
                                    body: JSON.stringify(body)});
    if (!reply.ok) { alert(await reply.text()); return; }
    const state = await reply.json();
    id = state.id;
    document.querySelector("main").innerHTML = state.html;
    document.querySelector("#where").textContent = state.judged + " of " + state.total + " judged";
    document.querySelector("#report").textContent = state.report;
  } catch (error) { alert("the audit has ended: " + error); } finally { busy = false; }
}
document.addEventListener("keydown", event => {
  if (busy || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Backspace") { event.preventDefault(); ask({undo: true}); }
  else if (id !== null && keys[event.key]) ask({id, verdict: keys[event.key][0], fault: keys[event.key][1]});
});
ask({});
</script>"""


def audit_server(audit: Audit, port: int) -> ThreadingHTTPServer:
    """A server of the page on the loopback interface; port 0 takes a free one. The caller runs and closes it."""
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._is_ours():
                page = _PAGE % STYLE
                self._reply(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())

        def do_POST(self) -> None:
            if not self._is_ours():
                return
            try:
                # Another site's page cannot send this type without asking first.
                if self.headers.get_content_type() != "application/json":
                    raise ValueError("expected application/json")
                length = int(self.headers.get("Content-Length", "0"))
                if not 0 <= length <= _LARGEST:
                    raise ValueError(f"expected at most {_LARGEST} bytes, found {length}")
                body = json.loads(self.rfile.read(length) or b"{}")
                with lock:
                    reply = _answer(audit, body)
            except (ValueError, TypeError, AttributeError) as error:
                self._reply(HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", str(error).encode())
                return
            self._reply(HTTPStatus.OK, "application/json", json.dumps(reply).encode())

        def _is_ours(self) -> bool:
            """Was the page asked for under this machine's own name? Other names may be a foreign site's."""
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host in ("127.0.0.1", "localhost"):
                return True
            self._reply(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"this page is for this machine alone")
            return False

        def _reply(self, status: HTTPStatus, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def _answer(audit: Audit, body: dict) -> dict:
    """Take a verdict, and say what comes next."""
    if body.get("undo"):
        audit.undo()
    elif "id" in body:
        audit.record(body["id"], body.get("verdict", ""), body.get("fault", ""))
    sample = audit.next()
    return {
        "id": None if sample is None else sample["id"],
        "html": "<p>All are judged.</p>" if sample is None else article(sample["id"], sample),
        "judged": audit.judged,
        "total": audit.total,
        "report": audit.report(),
    }
