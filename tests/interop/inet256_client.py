#!/usr/bin/env python3
"""A client of INET256's local API (v0.0.8), for the standard library of Python 3.

It is written from the description of that API alone and knows nothing of Byway, so it stands for the programs of
others. Commands print one JSON object per line.

    inet256_client.py vectors FILE                                        frames to the byte
    inet256_client.py --api unix:///run/byway/api.sock open-vector FILE   the same against a daemon
    inet256_client.py --api unix:///run/byway/api.sock check [NAME ...]   what a daemon must do
"""

import argparse
import base64
import hashlib
import json
import os
import queue
import secrets
import socket
import struct
import sys
import threading
import time

FRAME_MAX = 4 + 32 + 65535
ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
KEEP_PERIOD = 1.0


# Keys and ids


def _ed25519_public(seed):
    """The public half of an Ed25519 seed (RFC 8032), slow and simple: enough for a test."""
    p = 2**255 - 19
    d = -121665 * pow(121666, p - 2, p) % p

    def recover_x(y):
        xx = (y * y - 1) * pow(d * y * y + 1, p - 2, p) % p
        x = pow(xx, (p + 3) // 8, p)
        if (x * x - xx) % p:
            x = x * pow(2, (p - 1) // 4, p) % p
        return p - x if x % 2 else x

    base_y = 4 * pow(5, p - 2, p) % p
    base = (recover_x(base_y), base_y, 1, recover_x(base_y) * base_y % p)

    def add(a, b):
        x1, y1, z1, t1 = a
        x2, y2, z2, t2 = b
        m, n = (y1 - x1) * (y2 - x2) % p, (y1 + x1) * (y2 + x2) % p
        c, e = 2 * t1 * t2 * d % p, 2 * z1 * z2 % p
        f, g, h, k = n - m, e - c, e + c, n + m
        return (f * g % p, h * k % p, g * h % p, f * k % p)

    digest = bytearray(hashlib.sha512(seed).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    scalar, point, power = int.from_bytes(digest, "little"), (0, 1, 1, 0), base
    while scalar:
        if scalar & 1:
            point = add(point, power)
        power, scalar = add(power, power), scalar >> 1
    x, y, z, _ = point
    inverse = pow(z, p - 2, p)
    x, y = x * inverse % p, y * inverse % p
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _tagged(tag, raw):
    return struct.pack("<H", len(tag)) + tag + raw


class Key:
    """An Ed25519 key in the forms of v0.0.8."""

    def __init__(self, seed=None):
        self.seed = seed or secrets.token_bytes(32)
        public = _ed25519_public(self.seed)
        self.public = _tagged(b"ed25519", public)
        self.private = _tagged(b"ed25519.private", self.seed + public)
        self.id = hashlib.shake_256(self.public).digest(32)

    def body(self):
        return json.dumps({"private_key": base64.b64encode(self.private).decode()}, separators=(",", ":")).encode()


def id_text(raw):
    bits = int.from_bytes(raw, "big") << 2
    return "".join(ALPHABET[bits >> 6 * place & 63] for place in reversed(range(43)))


def id_bytes(text):
    bits = 0
    for character in text:
        bits = bits << 6 | ALPHABET.index(character)
    return (bits >> 2).to_bytes(32, "big")


# Frames


def frame(kind, body=b""):
    return struct.pack(">I", 4 + len(body)) + kind + body


def find_request(request_id, prefix, nbits):
    ask = {"prefix": base64.b64encode(prefix).decode(), "nbits": nbits}
    return frame(b"FIND", request_id + json.dumps(ask, separators=(",", ":")).encode())


def lookup_request(request_id, target):
    return frame(b"PUBK", request_id + json.dumps({"target": id_text(target)}, separators=(",", ":")).encode())


def read_exactly(sock, count):
    parts = []
    while count:
        part = sock.recv(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_frame(sock):
    """One frame as (kind, body), or None at the end of the stream."""
    head = read_exactly(sock, 4)
    if head is None:
        return None
    (length,) = struct.unpack(">I", head)
    if not 4 <= length <= FRAME_MAX:
        raise ValueError(f"the daemon sent a frame of {length} bytes")
    body = read_exactly(sock, length)
    return None if body is None else (body[:4], body[4:])


# HTTP


class Refused(Exception):
    """The daemon answered with another status than 200."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body.decode(errors='replace')}")
        self.status = status
        self.body = body


def dial(api):
    scheme, rest = api.split("://", 1)
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(rest)
        return sock
    host, port = rest.rsplit(":", 1)
    return socket.create_connection((host, int(port)))


def request(api, method, path, body=b"", early=b""):
    """Sends a request and reads the head of the answer: (socket, status, headers)."""
    sock = dial(api)
    sock.settimeout(20)
    head = f"{method} {path} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body + early)
    answer = b""
    while b"\r\n\r\n" not in answer:
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError(f"the daemon closed the connection after {answer!r}")
        answer += byte
    lines = answer.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return sock, int(lines[0].split()[1]), headers


def call(api, method, path, body=b""):
    """An ordinary request: (status, body)."""
    sock, status, headers = request(api, method, path, body)
    with sock:
        length = int(headers.get("content-length", 0))
        return status, (read_exactly(sock, length) or b"") if length else b""


# A node


class Node:
    """A node that is open; a thread reads its frames."""

    def __init__(self, api, key=None, early=b"", keep=True):
        self.key = key or Key()
        self.id = self.key.id
        self.messages = queue.Queue()
        self.answers = {}
        self.keeps = 0
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self.sock, status, headers = request(api, "CONNECT", f"/nodes/{id_text(self.id)}", self.key.body(), early)
        if status != 200:
            length = int(headers.get("content-length", 0))
            body = (read_exactly(self.sock, length) or b"") if length else b""
            self.sock.close()
            raise Refused(status, body)
        self.sock.settimeout(None)
        threading.Thread(target=self._read, daemon=True).start()
        if keep:
            threading.Thread(target=self._keep, daemon=True).start()

    def _read(self):
        try:
            while (received := read_frame(self.sock)) is not None:
                kind, body = received
                if kind == b"DATA":
                    self.messages.put((body[:32], body[32:]))
                elif kind == b"KEEP":
                    self.keeps += 1
                elif kind in (b"FIND", b"PUBK"):
                    waiting = self.answers.pop(body[:16], None)
                    if waiting:
                        waiting.put(json.loads(body[16:]))
        except OSError:
            pass
        self.ended.set()

    def _keep(self):
        while not self.ended.wait(KEEP_PERIOD):
            try:
                self.write(frame(b"KEEP"))
            except OSError:
                return

    def write(self, data):
        with self._lock:
            self.sock.sendall(data)

    def send(self, to, payload):
        if len(payload) > 65535:
            raise ValueError("message too long")
        self.write(frame(b"DATA", to + payload))

    def receive(self, timeout=2):
        return self.messages.get(timeout=timeout)

    def _ask(self, build, timeout):
        request_id, waiting = secrets.token_bytes(16), queue.Queue()
        self.answers[request_id] = waiting
        self.write(build(request_id))
        return waiting.get(timeout=timeout)

    def find(self, prefix, nbits, timeout=12):
        answer = self._ask(lambda request_id: find_request(request_id, prefix, nbits), timeout)
        if answer.get("error"):
            raise LookupError(answer["error"])
        return id_bytes(answer["ok"]["addr"])

    def lookup(self, target, timeout=12):
        answer = self._ask(lambda request_id: lookup_request(request_id, target), timeout)
        if answer.get("error"):
            raise LookupError(answer["error"])
        return base64.b64decode(answer["ok"]["public_key"])

    def ask_raw(self, kind, body, timeout=12):
        return self._ask(lambda request_id: frame(kind, request_id + body), timeout)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def drop(api, key):
    status, body = call(api, "DELETE", f"/nodes/{id_text(key.id)}", key.body())
    if status != 200:
        raise Refused(status, body)


# What there is to run


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def raises(kind, action, what):
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(what)


def pairs_exchange(nodes):
    """Every ordered pair sends and receives, and the sender is the one that it claims to be."""
    for source in nodes:
        for target in nodes:
            if source is not target:
                source.send(target.id, source.id + target.id)
    for target in nodes:
        seen = set()
        while len(seen) < len(nodes) - 1:
            source, payload = target.receive()
            expect(payload == source + target.id, "payload and source belong together")
            expect(source not in seen, "each message arrives once")
            seen.add(source)


def suite_send(apis):
    """Send: 5 nodes on one service, every ordered pair."""
    nodes = [Node(apis[0]) for _ in range(5)]
    pairs_exchange(nodes)
    for node in nodes:
        node.close()


def suite_send_multiple(apis):
    """SendMultiple: two services (one twice where there is one) with 5 nodes each, all pairs."""
    nodes = [Node(api) for api in (apis[0], apis[-1]) for _ in range(5)]
    pairs_exchange(nodes)
    for node in nodes:
        node.close()


def suite_loopback(apis):
    """TestLoopback: a node sends to itself."""
    with Node(apis[0]) as node:
        node.send(node.id, b"me")
        expect(node.receive() == (node.id, b"me"), "its own message comes back")


def suite_find_addr(apis):
    """FindAddr: the beginning of the other node's id gives exactly that id."""
    with Node(apis[0]) as one, Node(apis[-1]) as other:
        expect(one.find(other.id, 256) == other.id, "all bits")
        expect(one.find(other.id[:15], 115) == other.id, "the bits that an IPv6 address tells")
        error = raises(LookupError, lambda: one.find(bytes(32), 256), "nobody has this address")
        expect("no address" in str(error), f"the error says so: {error}")


def suite_find_seven(apis):
    """FindAddr with 7 bits, where the other node is the only one that has them."""
    with Node(apis[0]) as one:
        while True:
            key = Key()
            taken = {node[0] >> 1 for node in (one.id, main_id(apis[0]), main_id(apis[-1]))}
            if key.id[0] >> 1 not in taken:
                break
        with Node(apis[-1], key) as other:
            expect(one.find(other.id[:1], 7) == other.id, "seven bits lead to it")


def suite_lookup(apis):
    """LookupPublicKey: the other node's key bytes are equal."""
    with Node(apis[0]) as one, Node(apis[-1]) as other:
        expect(one.lookup(other.id) == other.key.public, "the other's key")
        expect(one.lookup(one.id) == one.key.public, "one's own key")
        started = time.monotonic()
        raises(LookupError, lambda: one.lookup(bytes(31) + b"\1"), "nobody has this address")
        expect(time.monotonic() - started < 12, "the answer comes in bounded time")


def suite_reopen(apis):
    """ReOpen: open, close, open; then drop, open."""
    key = Key()
    Node(apis[0], key).close()
    with Node(apis[0], key) as node:
        drop(apis[0], key)
        expect(node.ended.wait(5), "a drop ends the stream")
    with Node(apis[0], key) as node:
        node.send(node.id, b"again")
        expect(node.receive() == (node.id, b"again"), "it works after all that")
    drop(apis[0], Key())


def sizes(apis):
    """0 to 65,535 bytes arrive, 65,536 do not."""
    with Node(apis[0]) as one, Node(apis[-1]) as other:
        for size in (0, 1, 1280, 32768, 65449, 65535):
            payload = os.urandom(size)
            one.send(other.id, payload)
            expect(other.receive(10) == (one.id, payload), f"{size} bytes arrive whole")
        raises(ValueError, lambda: one.send(other.id, bytes(65536)), "the client refuses it")
        one.write(frame(b"DATA", other.id + bytes(65536)))
        expect(one.ended.wait(5), "a frame too long ends the stream")


def sent_at_once(apis):
    """1,000 messages that leave with the request that opens the node, or right after it, arrive in order."""
    with Node(apis[0]) as other:
        early = frame(b"DATA", other.id + b"early")
        with Node(apis[-1], early=early) as one:
            for number in range(999):
                one.send(other.id, struct.pack(">I", number))
            expect(other.receive(10) == (one.id, b"early"), "the one before the answer")
            for number in range(999):
                expect(other.receive(10) == (one.id, struct.pack(">I", number)), f"number {number}")


def one_key(apis):
    """Two clients with one key: the second is refused, clearly, and the first is not disturbed."""
    key = Key()
    with Node(apis[0], key) as node:
        error = raises(Refused, lambda: Node(apis[0], key), "the second is refused")
        expect(error.status == 409, f"with 409, not {error}")
        expect(json.loads(error.body)["code"] == "conflict", "and a code")
        node.send(node.id, b"mine")
        expect(node.receive() == (node.id, b"mine"), "the first goes on")


def silent(apis):
    """A client that is silent for 10 s is given up: its socket is closed and its node gone."""
    with Node(apis[0], keep=False) as node, Node(apis[0]) as other:
        started = time.monotonic()
        expect(node.ended.wait(20), "the socket is closed")
        waited = time.monotonic() - started
        expect(9 <= waited <= 14, f"after about 10 s, not {waited:.1f}")
        expect(node.keeps >= 8, f"the daemon itself was not silent: {node.keeps}")
        raises(LookupError, lambda: other.lookup(node.id), "the node is gone")
        expect(not other.ended.is_set(), "one that keeps alive stays")
        Node(apis[0], node.key).close()


def bad_input(apis):
    """What breaks the rules is answered or ends its own stream, and disturbs nobody."""
    with Node(apis[0]) as witness:
        for kind in (b"FIND", b"PUBK"):
            with Node(apis[0]) as node:
                for body in (b"", b"{", b"[]", b'{"target":7}', b'{"prefix":"!","nbits":3}', b"\xff"):
                    answer = node.ask_raw(kind, body)
                    expect(answer["error"] and "ok" in answer, f"{kind} {body}: {answer}")
                expect(not node.ended.is_set(), "a question that nobody understands ends nothing")
        for bytes_ in (struct.pack(">I", FRAME_MAX + 1), struct.pack(">I", 3) + b"abc", frame(b"MTU_", b"x"), frame(b"KEEP", b"x"), frame(b"DATA", b"short")):
            node = Node(apis[0])
            node.write(bytes_)
            expect(node.ended.wait(5), f"{bytes_!r} ends the stream")
            node.close()
        key, other = Key(), Key()
        for path, body, status in (
            (id_text(key.id), b"{", 400),
            (id_text(key.id), b"", 400),
            (id_text(key.id), other.body(), 400),
            (id_text(key.id)[:-1], key.body(), 400),
            (id_text(key.id) + "-", key.body(), 400),
            (id_text(key.id), json.dumps({"private_key": "AAAA"}).encode(), 400),
            (id_text(key.id), b" " * (1 << 20), 413),
        ):
            try:
                sock, got, _ = request(apis[0], "CONNECT", f"/nodes/{path}", body)
                sock.close()
                expect(got == status, f"{path} {body[:20]!r}: {got}")
            except (BrokenPipeError, ConnectionResetError):
                expect(status == 413, "only a body too long is cut off")
        expect(call(apis[0], "DELETE", f"/nodes/{id_text(key.id)}", other.body())[0] == 400, "a drop needs the key")
        expect(call(apis[0], "PUT", f"/nodes/{id_text(key.id)}", key.body())[0] == 405, "no such method")
        witness.send(witness.id, b"still here")
        expect(witness.receive() == (witness.id, b"still here"), "others are not disturbed")


def deaf(apis):
    """A client that never reads slows nobody: what is for it is held up, the rest is not."""
    key = Key()
    sock, status, _ = request(apis[0], "CONNECT", f"/nodes/{id_text(key.id)}", key.body())
    expect(status == 200, "it is open")
    with sock, Node(apis[0]) as one, Node(apis[0]) as other:
        stop = threading.Event()

        def live():
            while not stop.wait(1):
                sock.sendall(frame(b"KEEP"))

        threading.Thread(target=live, daemon=True).start()
        flood = threading.Thread(target=lambda: [one.send(key.id, bytes(32768)) for _ in range(300)], daemon=True)
        flood.start()
        flood.join(20)
        expect(not flood.is_alive(), "who sends to it gets through with its stream")
        for number in range(50):
            one.send(other.id, struct.pack(">I", number))
        for number in range(50):
            expect(other.receive(5) == (one.id, struct.pack(">I", number)), f"number {number}")
        stop.set()


def hundred(apis):
    """ServerCreateDrop: 100 nodes are opened, used and dropped."""
    keys = [Key() for _ in range(100)]
    nodes = [Node(apis[0], key) for key in keys]
    pairs_exchange(nodes)
    for key in keys:
        drop(apis[0], key)
    for node in nodes:
        expect(node.ended.wait(5), "a drop ends the stream")
        node.close()


def main_id(api):
    return id_bytes(json.loads(call(api, "GET", "/admin/status")[1])["main_addr"])


def admin(apis):
    """GET /healthz and GET /admin/status."""
    status, body = call(apis[0], "GET", "/healthz")
    expect(status == 200 and body.endswith(b"\n"), "alive")
    status, body = call(apis[0], "GET", "/admin/status")
    told = json.loads(body)
    expect(status == 200 and len(id_bytes(told["main_addr"])) == 32, "the daemon's own id")
    expect(isinstance(told["transport_addrs"], list) and isinstance(told["peers"], list), "lists")
    for peer in told["peers"]:
        expect({"Addr", "LastSeen", "Uploaded", "Downloaded"} == set(peer), f"the case of the fields: {peer}")


def check_vectors(path):
    """Frames and the request that opens a node, to the byte."""
    with open(path, encoding="utf-8") as file:
        vectors = [v for v in json.load(file)["vectors"] if v.get("profile") == "v0.0.8"]
    checked = 0
    for vector in vectors:
        if vector["kind"] == "ipc_frame":
            given, name = bytes.fromhex(vector["frame_hex"]), vector["name"]
            request_id = bytes.fromhex(vector.get("request_id_hex", ""))
            if name == "keepalive":
                made = frame(b"KEEP")
            elif name == "data_empty":
                made = frame(b"DATA", bytes.fromhex(vector["id_hex"] + vector["payload_hex"]))
            elif name == "find_addr_request":
                made = find_request(request_id, bytes.fromhex(vector["prefix_hex"]), vector["nbits"])
            elif name == "lookup_key_request":
                made = lookup_request(request_id, id_bytes(vector["id_base64"]))
            elif name == "find_addr_error":
                answer = {"ok": {"addr": "-" * 43}, "error": "no address with prefix"}
                made = frame(b"FIND", request_id + json.dumps(answer, separators=(",", ":")).encode())
            elif name == "lookup_key_error":
                answer = {"ok": {}, "error": "public key not found"}
                made = frame(b"PUBK", request_id + json.dumps(answer, separators=(",", ":")).encode())
            else:
                raise AssertionError(f"an unknown vector: {name}")
            expect(made == given, name)
            checked += 1
        elif vector["kind"] == "http_open_request":
            key = Key(bytes.fromhex(vector["seed_hex"]))
            expect(key.body().decode() == vector["body"], "the body of the request")
            expect(f"CONNECT /nodes/{id_text(key.id)} HTTP/1.1\r\n" in vector["request_text"], "its path")
            checked += 1
    expect(checked == 7, f"all vectors were looked at: {checked}")


def open_vector(api, path):
    """Opens a node with the very bytes of the vector, and looks up the errors of the vectors on it."""
    with open(path, encoding="utf-8") as file:
        vectors = [v for v in json.load(file)["vectors"] if v.get("profile") == "v0.0.8"]
    given = next(v for v in vectors if v["kind"] == "http_open_request")
    named = {v["name"]: v for v in vectors if v["kind"] == "ipc_frame"}
    with dial(api) as sock:
        sock.settimeout(20)
        sock.sendall(given["request_text"].encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1) or b"\r\n\r\n"
        expect(head.startswith(b"HTTP/1.1 200 "), f"{head!r}")
        keep, done = bytes.fromhex(named["keepalive"]["frame_hex"]), threading.Event()
        lock = threading.Lock()

        def live():
            while not done.wait(KEEP_PERIOD):
                with lock:
                    sock.sendall(keep)

        threading.Thread(target=live, daemon=True).start()
        for ask, answer in (("find_addr_request", "find_addr_error"), ("lookup_key_request", "lookup_key_error")):
            with lock:
                sock.sendall(bytes.fromhex(named[ask]["frame_hex"]))
            wanted = bytes.fromhex(named[answer]["frame_hex"])
            while True:
                kind, body = read_frame(sock)
                if kind == b"KEEP":
                    expect(frame(kind, body) == keep, "their sign of life")
                    continue
                expect(kind == wanted[4:8] and body[:16] == wanted[8:24], f"{kind} {body!r}")
                expect(json.loads(body[16:]) == json.loads(wanted[24:]), f"{body[16:]!r}")
                break
        done.set()


CHECKS = {
    "Send": suite_send,
    "SendMultiple": suite_send_multiple,
    "TestLoopback": suite_loopback,
    "FindAddr": suite_find_addr,
    "FindAddrSevenBits": suite_find_seven,
    "LookupPublicKey": suite_lookup,
    "ReOpen": suite_reopen,
    "ServerCreateDrop": hundred,
    "Sizes": sizes,
    "SentAtOnce": sent_at_once,
    "OneKey": one_key,
    "Silent": silent,
    "BadInput": bad_input,
    "Deaf": deaf,
    "Admin": admin,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--api", action="append", default=[], help="unix:///path or tcp://host:port; twice: two daemons that reach each other")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("vectors").add_argument("file")
    commands.add_parser("open-vector").add_argument("file")
    checks = commands.add_parser("check")
    checks.add_argument("names", nargs="*", choices=[[], *CHECKS], metavar="NAME", help=" ".join(CHECKS))
    arguments = parser.parse_args()
    apis = arguments.api or [os.environ.get("INET256_API", "unix:///run/inet256.sock")]
    if arguments.command == "vectors":
        check_vectors(arguments.file)
    elif arguments.command == "open-vector":
        open_vector(apis[0], arguments.file)
    else:
        for name in arguments.names or CHECKS:
            started = time.monotonic()
            CHECKS[name](apis)
            print(json.dumps({"check": name, "seconds": round(time.monotonic() - started, 2)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
