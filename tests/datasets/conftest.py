"""A web server on the loopback interface that can be told to misbehave."""

import hashlib
import http.server
import threading

import pytest


class Web:
    """What the server has and how it answers; `log` holds (path, Range header) per request."""

    def __init__(self):
        self.files = {}
        self.log = []
        self.behaviour = {}  # path -> list of functions(handler, body), one per request
        self.ranges = True
        self.tags = True

    def put(self, name, body, *behaviour):
        """Serves `body`, the first requests in the given odd ways. Returns the address."""
        self.files["/" + name] = body
        self.behaviour["/" + name] = list(behaviour)
        return self.url + name

    def requests(self, name):
        return [wanted for path, wanted in self.log if path == "/" + name]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        web = self.server.web
        web.log.append((self.path, self.headers.get("Range")))
        body = web.files.get(self.path)
        if body is None:
            return self.send_error(404)
        queue = web.behaviour.get(self.path)
        if queue:
            return queue.pop(0)(self, body)
        return self.answer(body)

    def answer(self, body, announced=None, headers=None, cut=None):
        """The right answer, unless told otherwise: another size, the end after `cut` bytes."""
        web = self.server.web
        tag = '"' + hashlib.md5(body).hexdigest() + '"'
        start, status = 0, 200
        wanted = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if web.ranges and wanted and condition in (None, tag):
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
        part = body[start:]
        self.send_response(status)
        if announced != "chunked":
            self.send_header("Content-Length", str(len(part) if announced is None else announced))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if web.tags:
            self.send_header("ETag", tag)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(part if cut is None else part[:cut])
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def web(monkeypatch, tmp_path):
    monkeypatch.setenv("HORNBEAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("hornbeam.utils.download.PAUSE", 0.0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # clients that hang up are part of the tests
    server.web = web = Web()
    web.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield web
    server.shutdown()
    thread.join()
    server.server_close()
