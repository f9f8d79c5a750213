"""A larger model that fails in every way in which providers do, and knows what it could have billed for."""

import collections
import http.server
import json
import random
import socket
import struct
import threading
import time

# Calls in a hundred that fail, each in one of the ways below in turn.
FAILING = 50


class Model:
    """What all calls share: the right answers, a journal of what was received, and a count of each failure."""

    def __init__(self, answers, right):
        self.answers, self.right = answers, right
        self.lock = threading.Lock()
        self.chance = random.Random(7)
        self.played = collections.Counter()
        self.received = []
        self.turn = 0
        self.billable_tokens = [0, 0]

    def plays(self):
        """The failure of this call, or none."""
        with self.lock:
            if self.chance.randrange(100) >= FAILING:
                kind = None
            else:
                kind = FAILURES[self.turn % len(FAILURES)]
                self.turn += 1
            self.played[kind or "good answer"] += 1
            return kind

    def says(self, asked):
        """The answer to a request, in the words of its schema; wrong as often as was said."""
        schema = asked["response_format"]["json_schema"]["schema"]["properties"]
        text = next(message["content"] for message in asked["messages"] if message["role"] == "user")
        with self.lock:
            self.received.append(json.dumps(asked))
            good = self.chance.random() < self.right
            known = self.answers.get(text)
            return {
                name: known if good and known in one["enum"] else self.chance.choice(one["enum"])
                for name, one in schema.items()
            }


def refusal(status, code, message, headers=()):
    def play(call, asked):
        call.reply({"error": {"message": message, "type": "error", "code": code}}, status, dict(headers))

    return play


def silence(call, asked):
    call.bill(asked, "{}")
    time.sleep(4)
    call.close_connection = True


def reset(call, asked):
    call.bill(asked, "{}")
    call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.connection.close()
    call.close_connection = True


def cut_off(call, asked):
    body = call.whole(asked, json.dumps(call.model.says(asked)))
    call.start(200, len(body))
    call.wfile.write(body[: len(body) // 2])
    call.close_connection = True


def slow(call, asked):
    time.sleep(0.5)
    call.good(asked, json.dumps(call.model.says(asked)))


def says(content):
    return lambda call, asked: call.good(asked, content)


def no_json(call, asked):
    body = b'{"choices": [{"message": '
    call.bill(asked, "{}")
    call.start(200, len(body))
    call.wfile.write(body)


def filtered(call, asked):
    call.good(asked, "", "content_filter")


PLAYS = {
    "429 with Retry-After": refusal(429, "rate_limit_exceeded", "slow down", {"retry-after": "1"}),
    "429 without": refusal(429, "rate_limit_exceeded", "slow down"),
    "500": refusal(500, None, "oops"),
    "503": refusal(503, None, "overloaded"),
    "reset": reset,
    "silence": silence,
    "slow first byte": slow,
    "cut off": cut_off,
    "no JSON": no_json,
    "prose": says("I would say that this is about the card."),
    "label outside of the contract": says('{"category": "something else entirely"}'),
    "half an answer": says('{"categ'),
    "context length": refusal(400, "context_length_exceeded", "maximum context length is 8"),
    "content filter, refused": refusal(400, "content_filter", "filtered"),
    "content filter, emptied": filtered,
    "key refused": refusal(401, "invalid_api_key", "no such key"),
}
FAILURES = list(PLAYS)


class Call(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model = None

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        # The stand-in fails too, but never for good.
        if "/second/" in self.path and random.random() >= 0.3:
            kind = None
            self.model.played["good answer of the stand-in"] += 1
        else:
            kind = self.model.plays()
        try:
            if kind is None:
                self.good(asked, json.dumps(self.model.says(asked)))
            else:
                self.model.received.append(json.dumps(asked))
                PLAYS[kind](self, asked)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def bill(self, asked, content):
        # A token is four bytes, as a real one is on average.
        read = sum(len(message["content"]) for message in asked["messages"]) // 4
        written = max(1, len(content) // 4)
        with self.model.lock:
            self.model.billable_tokens[0] += read
            self.model.billable_tokens[1] += written
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def whole(self, asked, content, reason="stop"):
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        usage = self.bill(asked, content)
        frame = {"id": "c", "object": "chat.completion", "model": asked["model"], "choices": [choice], "usage": usage}
        return json.dumps(frame).encode()

    def good(self, asked, content, reason="stop"):
        body = self.whole(asked, content, reason)
        self.start(200, len(body))
        self.wfile.write(body)

    def reply(self, value, status, headers):
        body = json.dumps(value).encode()
        self.start(status, len(body), headers)
        self.wfile.write(body)

    def start(self, status, length, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(length))
        self.end_headers()

    def log_message(self, *_):
        pass


class Serving(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request, client_address):
        """What a caller who hangs up leaves is no news."""


def start(model):
    """Serves until the program ends; returns the address."""
    server = Serving(("127.0.0.1", 0), type("Bound", (Call,), {"model": model}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"
