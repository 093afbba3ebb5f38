"""Starts the pinned fault proxy. Usage: proxy.py ARGUMENTS OF MICROBURST, with a pipe as standard input that the parent
keeps open for as long as the proxy shall live.
"""

import os
import sys
import threading

from microburst import protocols
from microburst.cli import main
from microburst.forward import Upstream


def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


# A signature covers the host that was called, and the emulator checks it.

outbound_headers = Upstream._outbound_headers


def with_the_host_that_was_called(self, request):
    return {**outbound_headers(self, request), "host": request.headers["Host"]}


Upstream._outbound_headers = with_the_host_that_was_called


# Of SQS's errors only its own have a prefix in the words of its old protocol. That it is throttled is said by all services.

protocols.query_error_namespace = lambda service: None

threading.Thread(target=end_with_parent, daemon=True).start()
main()
