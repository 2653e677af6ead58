"""The part of the Hugging Face hub's HTTP form that pushes and pulls use, with files in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.transfer.between import Answer, Between, Request, between

LARGE_BYTES = 20  # from this size on, a blob is uploaded as a large file


@dataclass
class HubServer:
    """A repository that exists, its files, and who may read and write."""

    repository: str = "shop/models"
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # uploaded and not committed, by SHA-256
    token: str | None = None  # that requests need
    commits: int = 0
    server: Between = field(default_factory=lambda: Between(""))

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    def answer(self, request: Request, _: Answer) -> Answer:
        path = request.path.partition("?")[0]
        if (
            self.token
            and not path.startswith("/upload/")
            and request.headers.get("Authorization") != f"Bearer {self.token}"
        ):
            return error(401, "RepoNotFound" if "/resolve/" in path else "")
        if not path.startswith((f"/{self.repository}", f"/api/models/{self.repository}/", "/upload/")):
            return error(404, "RepoNotFound")
        if "/resolve/main/" in path:
            return self.file(request, path.partition("/resolve/main/")[2])
        if path.endswith("/tree/main/tasks"):
            names = {name.split("/")[1] for name in self.files if name.startswith("tasks/")}
            return as_json([{"type": "directory", "path": f"tasks/{name}"} for name in sorted(names)])
        if path.endswith("/preupload/main"):
            files = json.loads(request.body)["files"]
            return as_json({"files": [{"path": one["path"], "shouldIgnore": False, **mode(one)} for one in files]})
        if path.endswith("/objects/batch"):
            objects = json.loads(request.body)["objects"]
            href = f"http://{self.host}/upload/"
            given = [{**one, "actions": {"upload": {"href": href + one["oid"]}}} for one in objects]
            return as_json({"transfer": "basic", "objects": given})
        if path.startswith("/upload/"):
            self.large[hashlib.sha256(request.body).hexdigest()] = request.body
            return Answer(200, {}, b"")
        if path.endswith("/commit/main"):
            return self.commit(request)
        return error(404, "EntryNotFound")

    def file(self, request: Request, name: str) -> Answer:
        if name not in self.files:
            return error(404, "EntryNotFound")
        content = self.files[name]
        offset = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        headers = {"X-Repo-Commit": "0" * 40, "ETag": '"x"'}
        if request.method == "HEAD":
            return Answer(200, headers, b"", len(content))
        return Answer(206, headers, content[int(offset[1]) :]) if offset else Answer(200, headers, content)

    def commit(self, request: Request) -> Answer:
        for line in map(json.loads, request.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.large[value["oid"]]
        self.commits += 1
        address = f"http://{self.host}/{self.repository}/commit/1"
        return as_json({"success": True, "commitUrl": address, "commitOid": "1" * 40})


def mode(file: dict) -> dict[str, str]:
    is_large = file["path"].startswith("blobs/") and file["size"] >= LARGE_BYTES
    return {"uploadMode": "lfs" if is_large else "regular"}


def as_json(value: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def error(status: int, code: str) -> Answer:
    return Answer(status, {"X-Error-Code": code, "X-Error-Message": "a message of the hub"}, b'{"error": "no"}')


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """A hub on loopback."""
    with between("") as server:
        hub = HubServer(server=server)
        server.alter = hub.answer
        yield hub
