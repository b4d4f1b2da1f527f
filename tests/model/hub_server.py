"""A server that speaks the part of the Hugging Face Hub's API that uploads and downloads use, over a folder.

Repositories are folders; a commit is a number. Large files come by the LFS part of the API, small ones inside the
commit, as the real Hub asks for them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "a-token"


class HubServer(ThreadingHTTPServer):
    """The server; `requests` are the paths that were asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.root = root
        self.requests: list[str] = []
        self.private: dict[str, bool] = {}
        self.uploads: dict[str, bytes] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit_of(self, repo: str) -> str:
        return hashlib.sha1(repo.encode() + b"".join(sorted(map(self._line, self.files(repo))))).hexdigest()

    def files(self, repo: str) -> list[Path]:
        return sorted(path for path in (self.root / repo).rglob("*") if path.is_file())

    @staticmethod
    def _line(path: Path) -> bytes:
        return hashlib.sha1(path.read_bytes()).digest()


class HubRequest(BaseHTTPRequestHandler):
    """One request."""

    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._repository_read(body=True)

    def do_HEAD(self) -> None:
        self._repository_read(body=False)

    def do_PUT(self) -> None:
        self.server.uploads[urlparse(self.path).path.rpartition("/")[2]] = self._body()
        self._answer(200, {})

    def do_POST(self) -> None:
        path = urlparse(self.path).path
        self.server.requests.append(f"POST {path}")
        content = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            values = json.loads(content)
            name = f"{values.get('organization') or 'user'}/{values['name'].rpartition('/')[2]}"
            known = (self.server.root / name).is_dir()
            (self.server.root / name).mkdir(parents=True, exist_ok=True)
            private = values.get("private") or values.get("visibility") == "private"
            self.server.private.setdefault(name, bool(private))
            answer = {"url": f"{self.server.endpoint}/{name}", "name": name}
            self._answer(409 if known else 200, answer | ({"error": "You already created it"} if known else {}))
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(content)["files"]
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith("tensors") else "regular"}
                | {"shouldIgnore": False}
                for file in files
            ]
            self._answer(200, {"files": modes})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.endpoint}/lfs/{one['oid']}"}}}
                for one in json.loads(content)["objects"]
            ]
            self._answer(200, {"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            self._commit("/".join(path.split("/")[3:5]), content)
        else:
            self._answer(404, {"error": "not found"})

    def _commit(self, repo: str, content: bytes) -> None:
        for line in content.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self._put(repo, value["path"], base64.b64decode(value["content"]))
            elif entry["key"] == "lfsFile":
                self._put(repo, value["path"], self.server.uploads[value["oid"]])
        commit = self.server.commit_of(repo)
        url = f"{self.server.endpoint}/{repo}/commit/{commit}"
        self._answer(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _put(self, repo: str, name: str, content: bytes) -> None:
        path = self.server.root / repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def _repository_read(self, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        repo = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2])
        if not (self.server.root / repo).is_dir():
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}, body=body)
            return
        commit = self.server.commit_of(repo)
        if parts[0] == "api":
            root = self.server.root / repo
            names = [str(file.relative_to(root)) for file in self.server.files(repo)]
            siblings = [{"rfilename": name} for name in names]
            tree = [{"type": "file", "path": name, "size": (root / name).stat().st_size, "oid": name} for name in names]
            found: Any = tree if "tree" in parts else {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings}
            self._answer(200, found | {"private": False, "tags": []} if isinstance(found, dict) else found, body=body)
            return
        file = self.server.root / repo / "/".join(parts[4:])
        if not file.is_file():
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"}, body=body)
            return
        content = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        self._answer(200, content, headers, body=body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None, body: bool = True) -> None:
        encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        if body:
            self.wfile.write(encoded)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@contextmanager
def hub_server(root: Path) -> Iterator[HubServer]:
    """Runs the server over a folder."""
    server = HubServer(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
