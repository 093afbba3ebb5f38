"""The example's web service: says hello, and puts jobs into the queue.

GET /         the greeting, and which commit answers
GET /health   what the load balancer asks
POST /jobs    the body becomes a job
"""

import hashlib
import hmac
import json
import os
import signal
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8080
BODY_BYTES_MAX = 64 * 1024


def sign(body):
    return hmac.new(os.environ.get("SIGNING_KEY", "").encode(), body, hashlib.sha256).hexdigest()


def enqueue(body):
    import boto3

    attributes = {"signature": {"DataType": "String", "StringValue": sign(body)}}
    boto3.client("sqs").send_message(
        QueueUrl=os.environ["QUEUE_URL"], MessageBody=body.decode(), MessageAttributes=attributes
    )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            return self.answer(200, {"status": "ok"})
        if self.path == "/":
            greeting = os.environ.get("GREETING", "Hello")
            return self.answer(200, {"greeting": greeting, "commit": os.environ.get("COMMIT", "unknown")})
        return self.answer(404, {"error": "not found"})

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if self.path != "/jobs" or not length.isdigit() or not 0 < int(length) <= BODY_BYTES_MAX:
            return self.answer(400, {"error": "POST /jobs with a body of up to 64 KiB"})
        enqueue(self.rfile.read(int(length)))
        return self.answer(202, {"status": "queued"})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *arguments):
        if self.path != "/health":
            print(form % arguments, flush=True)


def check():
    """ECS's health check: exits with an error if the service does not answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=3) as answer:
        sys.exit(answer.status != 200)


def main():
    server = ThreadingHTTPServer(("", PORT), Handler)
    # Requests in hand are answered before the process ends: stop accepting, and wait for their threads.
    server.daemon_threads = False
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    check() if sys.argv[1:] == ["check"] else main()
