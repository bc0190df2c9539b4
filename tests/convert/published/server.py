"""A server on loopback: plain files, and the endpoints of the Hub that huggingface_hub uses."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40
"""The one commit of every repository."""


class Server:
    """Files by path, `OWNER/REPOSITORY/FILE` in `repositories`, and what goes wrong.

    Attributes:
      files: path -> bytes, at `address(path)`.
      repositories: name -> {file: bytes}.
      cut: bytes to send of each of the next answers before the connection breaks.
      later: files that replace others after the next broken answer.
      silent: does not answer until this is set.
      wrong: sends other bytes than it announces the SHA-256 of.
      refused: part of the addresses that are answered with 403.
      requests: (method, path, Range).
    """

    def __init__(self):
        self.files, self.repositories, self.cut, self.requests = {}, {}, [], []
        self.silent, self.wrong, self.refused, self.objects = None, False, None, {}
        self.later = {}
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}"

    def address(self, path):
        return f"{self.url}/{path}"

    def publish(self, path, content):
        """Serve a file, and return its address and the SHA-256."""
        self.files[path] = content
        return self.address(path), hashlib.sha256(content).hexdigest()

    def gets(self):
        return [path for method, path, _ in self.requests if method == "GET"]

    def close(self):
        if self.silent is not None:
            self.silent.set()
        self.http.shutdown()
        self.http.server_close()

    def _handler(server):  # noqa: N805 (the handler's own self is another one)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.answer()

            do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

            def log_message(self, *args):
                pass

            def answer(self):
                asked = self.headers.get("Range")
                server.requests.append((self.command, self.path, asked))
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                if server.silent is not None:
                    server.silent.wait(20)
                if server.refused and server.refused in self.path:
                    return self.error(403, "")
                for pattern, act in server.routes():
                    if match := re.fullmatch(pattern, self.path.partition("?")[0]):
                        return act(self, body, **match.groupdict())
                return self.error(404, "EntryNotFound")

            def error(self, status, code):
                self.reply(status, b"{}", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})

            def reply(self, status, content=b"", headers=(), start=0):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content) - start))
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                content = content[start:]
                if status in (200, 206) and server.cut:
                    content = content[: server.cut.pop(0)]
                    self.close_connection = True
                    server.files.update(server.later)
                with contextlib.suppress(OSError):
                    self.wfile.write(content)

            def send_file(self, content, headers):
                content = bytes(len(content)) if server.wrong else content
                found = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
                same = self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
                start = int(found[1]) if found and same else 0
                if start:
                    size = len(content)
                    headers = {**headers, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
                self.reply(206 if start else 200, content, headers, start)

        return Handler

    def routes(self):
        yield r"/(?P<path>files/.*)", self._file
        yield r"/cdn/(?P<digest>\w+)", self._content
        yield r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self._resolve
        yield r"/api/repos/create", self._create
        yield r"/api/validate-yaml", self._accept
        yield r"/api/models/(?P<name>.+)/preupload/main", self._preupload
        yield r"/(?P<name>.+)\.git/info/lfs/objects/batch", self._batch
        yield r"/upload/(?P<digest>\w+)", self._upload
        yield r"/api/models/(?P<name>.+)/commit/main", self._commit

    def _file(self, http, body, path):
        content = self.files.get(path)
        if content is None:
            return http.error(404, "")
        return http.send_file(content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})

    def _content(self, http, body, digest):
        return http.send_file(self.objects[digest], {"ETag": f'"{digest}"'})

    def _resolve(self, http, body, name, revision, file):
        if name not in self.repositories:
            return http.error(404, "RepoNotFound")
        if revision not in ("main", "v1", COMMIT):
            return http.error(404, "RevisionNotFound")
        content = self.repositories[name].get(file)
        if content is None:
            return http.error(404, "EntryNotFound")
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if file.endswith(".json"):
            return http.reply(200, content, headers)
        self.objects[digest] = content
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        place = f"http://localhost:{self.http.server_port}/cdn/{digest}"  # another host, as a CDN
        return http.reply(302, b"", {**headers, **linked, "Location": place})

    def _create(self, http, body):
        asked = json.loads(body)
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        self.repositories.setdefault(name, {})
        self._json(http, {"url": f"{self.url}/{name}", "name": name})

    def _accept(self, http, body):
        self._json(http, {"errors": [], "warnings": []})

    def _preupload(self, http, body, name):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        self._json(http, {"files": files})

    def _batch(self, http, body, name):
        objects = [
            {**each, "actions": {"upload": {"href": self.address(f"upload/{each['oid']}")}}}
            for each in json.loads(body)["objects"]
        ]
        self._json(http, {"transfer": "basic", "objects": objects})

    def _upload(self, http, body, digest):
        assert hashlib.sha256(body).hexdigest() == digest
        self.objects[digest] = body
        http.reply(200)

    def _commit(self, http, body, name):
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.repositories[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.repositories[name][value["path"]] = self.objects[value["oid"]]
        self._json(
            http,
            {
                "success": True,
                "commitUrl": f"{self.url}/{name}/commit/{COMMIT}",
                "commitOid": COMMIT,
            },
        )

    def _json(self, http, value):
        http.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})
