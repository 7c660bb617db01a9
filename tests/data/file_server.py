"""A web server on loopback that serves files and misbehaves as told."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """Serves what is in `files`; use it in a `with` block.

    Attributes:
        files: contents by path, such as 'cremi/sample_A_20160501.hdf'; may change meanwhile.
        faults: what goes wrong with the next requests, one each: a status to answer, minus the
            number of bytes after which to break off, or 'hang'.
        headers: sent with every answer.
        certificate: files of it and its key, for https.
        requests: (path, status) of each request so far.
    """

    files: dict[str, bytes]
    faults: list[int | str] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    certificate: tuple[str, str] | None = None
    requests: list[tuple[str, int]] = field(default_factory=list)

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

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.lstrip('/').split('?')[0]
        fault = self.faults.pop(0) if self.faults else None
        if fault == 'hang':
            self.requests.append((path, 0))
            self.stopping.wait()
            return
        status = 200 if path in self.files else 404
        if isinstance(fault, int) and fault > 0:
            status = fault
        body = self.files[path] if status == 200 else b'sorry'
        self.requests.append((path, status))
        request.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **self.headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[:-fault] if isinstance(fault, int) and fault < 0 else body)
        request.close_connection = True
