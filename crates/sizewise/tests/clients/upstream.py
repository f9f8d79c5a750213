"""What does a provider of larger models say? A small one of our own, for the checks of what passes through."""

import http.server
import json
import threading


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "upstream-key" not in (self.headers.get("authorization", "")[7:], self.headers.get("x-api-key"), self.headers.get("x-goog-api-key")):
            return self.whole({"error": {"message": "no such key"}}, 401)
        path, _, query = self.path.partition("?")
        in_path = path.rpartition("/")[2].partition(":")
        words = ["hello ", "from ", asked.get("model") or in_path[0]]
        if self.path.endswith("/chat/completions"):
            form = asked.get("response_format")
            if form:
                # A cascade asks for JSON of a schema: the first label of each question will do.
                assert "hamster wheel" in asked["messages"][-1]["content"], "the text itself must arrive"
                labels = {name: one["enum"][0] for name, one in form["json_schema"]["schema"]["properties"].items()}
                words = [json.dumps(labels)]
            frame = {"id": "c1", "created": 1, "model": asked["model"]}
            usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
            if not asked.get("stream"):
                message = {"role": "assistant", "content": "".join(words)}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                return self.whole({**frame, "object": "chat.completion", "choices": [choice], "usage": usage})
            frame["object"] = "chat.completion.chunk"
            chunks = [{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None} for word in words]
            chunks.append({"index": 0, "delta": {}, "finish_reason": "stop"})
            events = [f"data: {json.dumps({**frame, 'choices': [chunk]})}\n\n" for chunk in chunks]
            return self.stream([*events, "data: [DONE]\n\n"])
        if self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            return self.whole({"object": "list", "data": data, "model": asked["model"], "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        if self.path.endswith("/messages"):
            frame = {"id": "m1", "type": "message", "role": "assistant", "model": asked["model"], "stop_sequence": None}
            usage = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": None}
            if not asked.get("stream"):
                content = [{"type": "text", "text": "".join(words)}]
                return self.whole({**frame, "content": content, "stop_reason": "end_turn", "usage": usage})
            events = [{"type": "message_start", "message": {**frame, "content": [], "stop_reason": None, "usage": usage}}]
            events.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            events += [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words]
            events.append({"type": "content_block_stop", "index": 0})
            events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 10}})
            events.append({"type": "message_stop"})
            return self.stream([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events])
        if in_path[2] in ("generateContent", "streamGenerateContent"):
            usage = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}

            def part(text, reason):
                candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, "finishReason": reason}
                return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": in_path[0]}

            if in_path[2] == "generateContent":
                return self.whole(part("".join(words), "STOP"))
            assert query == "alt=sse", query
            parts = [part(word, "STOP" if word is words[-1] else None) for word in words]
            return self.stream([f"data: {json.dumps(one)}\r\n\r\n" for one in parts])
        return self.whole({"error": {"message": "no such path"}}, 404)

    def whole(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(f"{len(event.encode()):x}\r\n{event}\r\n".encode())
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


def start() -> str:
    """Serves until the program ends; returns the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def settings(address: str) -> str:
    """The settings that put it behind a server of ours."""
    one = 'key = "env:SIZEWISE_UPSTREAM_KEY"\nprice_in = 0.15\nprice_out = 0.60\n'
    return (
        f'[provider.chatty]\nurl = "{address}/v1"\nmodel = "large-1"\nmodels = ["other-9"]\n{one}'
        f'[provider.letters]\nurl = "{address}/v1"\nmodel = "large-2"\ndialect = "anthropic"\n{one}'
        f'[provider.stars]\nurl = "{address}/v1beta"\nmodel = "large-3"\ndialect = "gemini"\n{one}'
        '[relay]\nproviders = ["chatty", "letters", "stars"]\nbudget = { usd_per_day = 1.00 }\n'
    )
