"""Serves one of the APIs that are plain WSGI applications, on loopback, by threads: wsgi.py keystone|placement|aodh|stub PORT"""
import json
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


def keystone():
    from keystone.server.wsgi import initialize_public_application
    return initialize_public_application()


def placement():
    from placement.wsgi import init_application
    return init_application()


def aodh():
    from aodh.api.app import build_wsgi_app
    return build_wsgi_app(argv=["--config-file", "/etc/cloud/aodh.conf"])


def stub():
    """All that Nova asks of Neutron and Glance for a server without a network."""
    image = {
        "id": "11111111-1111-4111-8111-111111111111", "name": "stub", "status": "active", "visibility": "public",
        "container_format": "bare", "disk_format": "raw", "min_disk": 0, "min_ram": 0, "size": 1024, "owner": "x",
        "checksum": "0", "protected": False, "tags": [], "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z", "file": "/v2/images/x/file", "schema": "/v2/schemas/image",
    }
    schema = {"name": "image", "properties": {key: {} for key in image}, "additionalProperties": {"type": "string"}}

    def answer(environ, start_response):
        path = environ["PATH_INFO"]
        if "/schemas/image" in path:
            body = schema
        elif "/images" in path:
            body = image
        elif path.endswith("/extensions"):
            body = {"extensions": []}
        else:
            body = {"ports": [], "networks": [], "floatingips": [], "security_groups": []}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]
    return answer


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass

    def address_string(self):
        return self.client_address[0]


kind, port = sys.argv[1], int(sys.argv[2])
sys.argv = [kind]
make_server("127.0.0.1", port, globals()[kind](), Server, Quiet).serve_forever()
