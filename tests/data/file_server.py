"""A web server on loopback that serves files and misbehaves as told."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class FileServer:
    """Serves what is in `files`; use it in a `with` block.

    Attributes:
        files: contents by path, such as 'cremi/sample_A_20160501.hdf'; may change meanwhile.
        faults: what goes wrong with the next requests, one each: a status to answer, minus the
            number of bytes after which to break off, or 'hang'.
        ranges: whether parts of a file are served; 'careless' = of whatever file there is now.
        headers: sent with every file, in place of an ETag of its contents.
        requests: (path, Range, If-Range, status) of each request so far.
    """

    files: dict[str, bytes]
    faults: list[int | str] = field(default_factory=list)
    ranges: bool | str = True
    headers: Mapping[str, str] | None = None
    certificate: tuple[str, str] | None = None
    requests: list[tuple[str, str | None, str | None, int]] = field(default_factory=list)

    def __enter__(self) -> FileServer:
        self.stopping = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        scheme = 'http'
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = 'https'
        self.url = f'{scheme}://127.0.0.1:{self._server.server_port}'
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.lstrip('/').split('?')[0]
        contents = self.files.get(path)
        asked, version = request.headers['Range'], request.headers['If-Range']
        fault = self.faults.pop(0) if self.faults else None
        if fault == 'hang':
            self.requests.append((path, asked, version, 0))
            self.stopping.wait()
            return
        status = 404 if contents is None else 200
        headers: dict[str, str] = {}
        if isinstance(fault, int) and fault > 0:
            status, contents = fault, None
        if contents is not None:
            etag = f'"{hashlib.md5(contents).hexdigest()}"'
            headers = dict({'ETag': etag} if self.headers is None else self.headers)
            same = version in (None, *headers.values()) or self.ranges == 'careless'
            if asked is not None and self.ranges and same:
                first = int(asked.removeprefix('bytes=').removesuffix('-'))
                if first < len(contents):
                    status = 206
                    last = len(contents) - 1
                    headers['Content-Range'] = f'bytes {first}-{last}/{len(contents)}'
                    contents = contents[first:]
                else:
                    status = 416
                    headers['Content-Range'] = f'bytes */{len(contents)}'
                    contents = b''
        body = b'sorry' if contents is None else contents
        self.requests.append((path, asked, version, status))
        request.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[:-fault] if isinstance(fault, int) and fault < 0 else body)
        request.close_connection = True
