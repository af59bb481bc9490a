"""A stand-in for Weights & Biases: the few answers that its own client needs, over real HTTP.

Everything that arrives is kept. What the service would refuse, because a field is missing or of
another type than its schema says, is refused here too.
"""

import base64
import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4


class Service:
    """What arrived."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.projects: set[str] = set()
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.address = ""

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answer an operation of the client."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else "?"
        self.asked.append(name)
        act = getattr(self, f"on_{name.lower()}", None)
        if act is not None:
            answered: dict[str, Any] = act(given.get("input") or given)
            return answered
        return {}

    def check(self, given: dict[str, Any], **kinds: type) -> None:
        """Refuse variables that are missing or of another type."""
        for name, kind in kinds.items():
            if not isinstance(given.get(name), kind):
                raise ValueError(f"Variable ${name} must be {kind.__name__}: {given.get(name)!r}")

    def on_viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        teams: dict[str, Any] = {"edges": [{"node": {"name": "us"}}]}
        viewer = {"id": "u1", "entity": "us", "username": "us", "email": "us@example.org"}
        return {"viewer": {**viewer, "flags": "{}", "teams": teams, "admin": False, "name": "us"}}

    def on_upsertbucket(self, given: dict[str, Any]) -> dict[str, Any]:
        self.check(given, name=str, project=str, entity=str)
        run = self.runs.setdefault(given["name"], {})
        run.update({k: v for k, v in given.items() if v is not None})
        self.projects.add(given["project"])
        project = {"id": "p1", "name": given["project"], "entity": {"id": "e1", "name": "us"}}
        bucket = {
            "id": f"id-{given['name']}",
            "name": given["name"],
            "displayName": given.get("displayName") or given["name"],
            "description": "",
            "config": given.get("config") or "{}",
            "sweepName": None,
            "project": project,
            "historyLineCount": 0,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def on_createrunfiles(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"name": f, "uploadUrl": f"{self.address}/upload/{given['run']}/{f}"}
            for f in given["files"]
        ]
        made = {"runID": given["run"], "uploadHeaders": [], "files": files}
        return {"createRunFiles": made}

    def on_createartifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.check(given, artifactTypeName=str, digest=str, projectName=str, entityName=str)
        number = f"artifact-{len(self.artifacts)}"
        self.artifacts[number] = dict(given)
        artifact = {
            "id": number,
            "state": "PENDING",
            "artifactSequence": {"id": "s1", "latestArtifact": None},
        }
        return {"createArtifact": {"artifact": artifact}}

    def on_createartifactmanifest(self, given: dict[str, Any]) -> dict[str, Any]:
        return self.manifest("createArtifactManifest", given)

    def on_updateartifactmanifest(self, given: dict[str, Any]) -> dict[str, Any]:
        return self.manifest("updateArtifactManifest", given)

    def manifest(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        where = f"{self.address}/upload/manifest-{given['artifactID']}"
        file = {
            "id": "f1",
            "name": "m",
            "displayName": "m",
            "uploadUrl": where,
            "uploadHeaders": [],
        }
        return {name: {"artifactManifest": {"id": "m1", "file": file}}}

    def on_createartifactfiles(self, given: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for spec in given["artifactFiles"]:
            self.check(spec, artifactID=str, name=str, md5=str)
            where = f"{self.address}/upload/{spec['artifactID']}/{spec['name']}"
            node = {
                "id": spec["name"], "name": spec["name"], "displayName": spec["name"],
                "uploadUrl": where, "uploadHeaders": [], "artifact": {"id": spec["artifactID"]},
                "uploadMultipartUrls": None, "storagePath": None,
            }  # fmt: skip
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_commitartifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[given["artifactID"]]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}

    def on_artifactbyid(self, given: dict[str, Any]) -> dict[str, Any]:
        made = self.artifacts[given["id"]]
        project = {"id": "p1", "internalId": "UHJvamVjdDox", "name": made["projectName"]}
        project["entity"] = {"name": made["entityName"]}  # type: ignore[assignment]
        name = made["artifactCollectionName"]
        collection = {"__typename": "ArtifactSequence", "name": name, "project": project}
        artifact = {
            "__typename": "Artifact", "id": given["id"], "artifactSequence": collection,
            "versionIndex": 0, "artifactType": {"name": made["artifactTypeName"]},
            "description": None, "metadata": "{}", "ttlDurationSeconds": -1,
            "ttlIsInherited": False, "tags": [], "historyStep": None, "state": "COMMITTED",
            "size": 1, "digest": made["digest"], "commitHash": None, "fileCount": 1,
            "createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00",
            "aliases": [],
        }  # fmt: skip
        return {"artifact": artifact}

    def on_getprojects(self, given: dict[str, Any]) -> dict[str, Any]:
        user = {**self.on_viewer({})["viewer"], "deletedAt": None, "apiKeys": {"edges": []}}
        edges = [
            {
                "node": {
                    "__typename": "Project", "id": "p1", "name": name, "entityName": "us",
                    "createdAt": "2026-01-01T00:00:00", "isBenchmark": False, "user": user,
                }
            }
            for name in sorted(self.projects)
        ]  # fmt: skip
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": edges}}

    def on_projectinternalid(self, given: dict[str, Any]) -> dict[str, Any]:
        known = given["projectName"] in self.projects
        return {"project": {"id": "p1", "internalId": "UHJvamVjdDox"} if known else None}

    def on_artifacttype(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def on_upsertview(self, given: dict[str, Any]) -> dict[str, Any]:
        self.check(given, entityName=str, projectName=str, displayName=str, spec=str, type=str)
        number = given.get("id") or f"view{len(self.views)}"
        self.views[number] = {**given, "spec": json.loads(given["spec"])}
        project = {"id": "p1", "name": given["projectName"], "entityName": given["entityName"]}
        view = {
            "id": number, "type": given["type"], "name": given["name"],
            "displayName": given["displayName"], "description": given["description"],
            "project": project, "spec": given["spec"], "updatedAt": "2026-01-01T00:00:00",
        }  # fmt: skip
        return {"upsertView": {"view": view, "inserted": True}}


def handler(service: Service) -> type[BaseHTTPRequestHandler]:
    """Return what answers requests for a service."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def reply(self, values: Any) -> None:
            content = json.dumps(values).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def content(self) -> bytes:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

        def do_GET(self) -> None:
            self.reply({})

        def do_PUT(self) -> None:
            service.files[self.path.removeprefix("/upload/")] = self.content()
            self.reply({})

        def do_POST(self) -> None:
            raw = self.content()
            secret = self.headers.get("Authorization", "").removeprefix("Basic ")
            service.keys.add(
                base64.b64decode(secret + "==").decode(errors="replace").removeprefix("api:")
            )
            if self.path.endswith("/graphql"):
                asked = json.loads(raw)
                try:
                    self.reply(
                        {"data": service.answer(asked["query"], asked.get("variables") or {})}
                    )
                except ValueError as error:
                    self.reply({"errors": [{"message": str(error)}], "data": None})
            else:
                if self.path.endswith("/file_stream"):
                    run = self.path.split("/")[-2]
                    for name, part in (json.loads(raw).get("files") or {}).items():
                        rows = [json.loads(line) for line in part["content"]]
                        if name == "wandb-history.jsonl":
                            service.history.setdefault(run, []).extend(rows)
                self.reply({})

    return Handler


@contextmanager
def running() -> Iterator[Service]:
    """Run a service on a free port of this machine."""
    service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(service))
    service.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
