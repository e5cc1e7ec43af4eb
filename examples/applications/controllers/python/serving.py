"""What the controllers have in common: their command line, and the server."""

import argparse
import concurrent.futures
import pathlib
import signal
import threading

import grpc

from appcontext import Store, load

contract, services = load("contract.proto")


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--listen", default="127.0.0.1:0", help="where to serve; the port is printed")
    parser.add_argument("--etcd", required=True, help="HOST:PORT of the store that AppContexts are in")
    parser.add_argument("--password", help="file with the password of --user, if the store wants to know who asks")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--ca", help="file with the certificate authority of the store, if that speaks TLS")
    return parser


def store(options):
    if not options.password:
        return Store(options.etcd, ca=options.ca)
    return Store(options.etcd, options.user, pathlib.Path(options.password).read_text().strip(), options.ca)


def serve(options, add):
    """Serves until it is told to end. `add` puts a service into the server."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8))
    add(server)
    port = server.add_insecure_port(options.listen)
    server.start()
    print(f"listening on port {port}", flush=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    server.stop(grace=2).wait()
