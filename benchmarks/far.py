"""Serve the files of this folder by ranges, each answer as late as over a long way.

    python benchmarks/far.py SECONDS

Prints its port. An answer is sent by the kernel, so that the server takes little of the cores.
"""

from __future__ import annotations

import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Far(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        time.sleep(float(sys.argv[1]))
        with open(self.path.lstrip("/"), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (int(asked[1]), int(asked[2] or size - 1)) if asked else (0, size - 1)
            last = min(last, size - 1)
            self.send_response(206 if asked else 200)
            self.send_header("ETag", '"1"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last + 1 - first))
            if asked:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.flush()
                while first <= last:
                    sent = os.sendfile(
                        self.connection.fileno(), file.fileno(), first, last + 1 - first
                    )
                    first += sent


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Far)
    print(server.server_port, flush=True)
    server.serve_forever()
