#!/usr/bin/env python3
"""A small orchestrator that is told of a site's hosts; see docs/sites.md.

    receiver.py PORT [KEY]      with KEY, documents must be signed with it

It keeps the latest document of each site in memory. A real one would keep it on a disk before it answers.
"""
import hashlib, hmac, http.server, json, sys

PORT, KEY = int(sys.argv[1]), sys.argv[2].encode() if len(sys.argv) > 2 else None
MOST = 16 << 20
latest = {}  # by id


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if length > MOST:
            return self.answer(413, message="too long")
        body = self.rfile.read(length)
        if KEY is not None:
            expected = "sha256=" + hmac.new(KEY, body, hashlib.sha256).hexdigest()
            if not hmac.compare_digest(expected, self.headers.get("X-Drystone-Signature", "")):
                return self.answer(401, message="the signature is wrong")
        document = json.loads(body)
        before = latest.get(document["id"], {"generation": 0})
        if document["generation"] < before["generation"]:
            return self.answer(409, generation=before["generation"])
        if document["generation"] > before["generation"]:
            latest[document["id"]] = document
            hosts = ", ".join(f"{host['name']} {host['state']}" for host in document["hosts"])
            print(f"{document['site']['name']} {document['generation']} {document['state']}: {hosts}", flush=True)
        self.answer(202, phase="Accepted", message=f"{len(document['hosts'])} hosts in the book")

    def answer(self, status, **reply):
        text = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
