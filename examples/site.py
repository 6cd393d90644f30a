"""A small web site for the demo: says where it listens in one line, then answers until it is ended."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_SECONDS = 30
PAGES = {
    "/flow": "Flow, and how to find it",
    "/wasm": "WebAssembly &amp; friends",
    "/slow": "Worth the wait",
}


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        title = PAGES.get(self.path)
        if self.path == "/slow":
            # Never set: a wait that the end of the program does not have to sit out.
            threading.Event().wait(SLOW_SECONDS)
        page = f"<!doctype html>\n<title>{title or 'Not here'}</title>\n<h1>{title or 'Not here'}</h1>\n".encode()
        self.send_response(200 if title else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the demo's output is that of the hosts."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
