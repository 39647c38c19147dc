import argparse
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shout.model import Model


class Handler(BaseHTTPRequestHandler):
    model: Model

    def do_GET(self):
        if self.path == "/healthz":
            self.say({"status": "ok"})
        elif self.path == "/v1/models":
            self.say({"data": [{"id": "shout"}]})
        else:
            self.send_error(404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = asked["messages"][-1]["content"]
        message = {"role": "assistant", "content": self.model.answer(content)["text"]}
        self.say({"choices": [{"message": message, "finish_reason": "stop"}]})

    def say(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9100)
    Handler.model = Model(os.environ.get("SHOUT_MODEL", "assets"))
    ThreadingHTTPServer(("0.0.0.0", parser.parse_args().port), Handler).serve_forever()


if __name__ == "__main__":
    main()
