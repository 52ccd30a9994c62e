"""A tiny backend for the sample configuration: says back, as JSON, what it was asked. usage: backend.py PORT"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """Answers every request with its method, path and headers."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """200 with what came; 404 below /missing, to show error bodies."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode(errors="replace")
        said = {"method": self.command, "path": self.path, "headers": dict(self.headers.items()), "body": body}
        content = json.dumps(said, indent=1).encode() + b"\n"
        self.send_response(404 if self.path.startswith("/missing") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """The gateway writes the access log."""


if __name__ == "__main__":
    try:
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
    except OSError as problem:
        sys.exit(f"the sample backend cannot listen at 127.0.0.1:{sys.argv[1]}: {problem.strerror}")
    except KeyboardInterrupt:
        pass
