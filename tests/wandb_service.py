"""A stand-in for the Weights & Biases service: answers the requests of its client over HTTP.

It stores everything that arrives, and refuses missing fields and fields of a wrong type, as the
schema of the real service does.
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
    """The state of the service: everything that arrived."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.projects: set[str] = set()
        self.operations: list[str] = []
        self.keys: set[str] = set()
        self.address = ""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer a GraphQL operation; unknown ones get an empty answer."""
        match = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = match[1] if match else "?"
        self.operations.append(name)
        method = getattr(self, f"on_{name.lower()}", None)
        if method is None:
            return {}
        answer: dict[str, Any] = method(variables.get("input") or variables)
        return answer

    def check(self, variables: dict[str, Any], **kinds: type) -> None:
        """Raise ValueError for a variable that is missing or of another type."""
        for name, kind in kinds.items():
            if not isinstance(variables.get(name), kind):
                raise ValueError(
                    f"Variable ${name} must be {kind.__name__}: {variables.get(name)!r}"
                )

    def on_viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        teams: dict[str, Any] = {"edges": [{"node": {"name": "us"}}]}
        viewer = {"id": "u1", "entity": "us", "username": "us", "email": "us@example.org"}
        return {"viewer": {**viewer, "flags": "{}", "teams": teams, "admin": False, "name": "us"}}

    def on_upsertbucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.check(variables, name=str, project=str, entity=str)
        run = self.runs.setdefault(variables["name"], {})
        run.update({k: v for k, v in variables.items() if v is not None})
        self.projects.add(variables["project"])
        project = {"id": "p1", "name": variables["project"], "entity": {"id": "e1", "name": "us"}}
        bucket = {
            "id": f"id-{variables['name']}",
            "name": variables["name"],
            "displayName": variables.get("displayName") or variables["name"],
            "description": "",
            "config": variables.get("config") or "{}",
            "sweepName": None,
            "project": project,
            "historyLineCount": 0,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def on_createrunfiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"name": f, "uploadUrl": f"{self.address}/upload/{variables['run']}/{f}"}
            for f in variables["files"]
        ]
        answer = {"runID": variables["run"], "uploadHeaders": [], "files": files}
        return {"createRunFiles": answer}

    def on_createartifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.check(variables, artifactTypeName=str, digest=str, projectName=str, entityName=str)
        number = f"artifact-{len(self.artifacts)}"
        self.artifacts[number] = dict(variables)
        artifact = {
            "id": number,
            "state": "PENDING",
            "artifactSequence": {"id": "s1", "latestArtifact": None},
        }
        return {"createArtifact": {"artifact": artifact}}

    def on_createartifactmanifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        return self.manifest("createArtifactManifest", variables)

    def on_updateartifactmanifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        return self.manifest("updateArtifactManifest", variables)

    def manifest(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.address}/upload/manifest-{variables['artifactID']}"
        file = {
            "id": "f1",
            "name": "m",
            "displayName": "m",
            "uploadUrl": url,
            "uploadHeaders": [],
        }
        return {name: {"artifactManifest": {"id": "m1", "file": file}}}

    def on_createartifactfiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for spec in variables["artifactFiles"]:
            self.check(spec, artifactID=str, name=str, md5=str)
            url = f"{self.address}/upload/{spec['artifactID']}/{spec['name']}"
            node = {
                "id": spec["name"], "name": spec["name"], "displayName": spec["name"],
                "uploadUrl": url, "uploadHeaders": [], "artifact": {"id": spec["artifactID"]},
                "uploadMultipartUrls": None, "storagePath": None,
            }  # fmt: skip
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_commitartifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[variables["artifactID"]]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}

    def on_artifactbyid(self, variables: dict[str, Any]) -> dict[str, Any]:
        stored = self.artifacts[variables["id"]]
        project = {"id": "p1", "internalId": "UHJvamVjdDox", "name": stored["projectName"]}
        project["entity"] = {"name": stored["entityName"]}  # type: ignore[assignment]
        name = stored["artifactCollectionName"]
        collection = {"__typename": "ArtifactSequence", "name": name, "project": project}
        artifact = {
            "__typename": "Artifact", "id": variables["id"], "artifactSequence": collection,
            "versionIndex": 0, "artifactType": {"name": stored["artifactTypeName"]},
            "description": None, "metadata": "{}", "ttlDurationSeconds": -1,
            "ttlIsInherited": False, "tags": [], "historyStep": None, "state": "COMMITTED",
            "size": 1, "digest": stored["digest"], "commitHash": None, "fileCount": 1,
            "createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00",
            "aliases": [],
        }  # fmt: skip
        return {"artifact": artifact}

    def on_getprojects(self, variables: dict[str, Any]) -> dict[str, Any]:
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

    def on_projectinternalid(self, variables: dict[str, Any]) -> dict[str, Any]:
        exists = variables["projectName"] in self.projects
        return {"project": {"id": "p1", "internalId": "UHJvamVjdDox"} if exists else None}

    def on_artifacttype(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def on_upsertview(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.check(variables, entityName=str, projectName=str, displayName=str, spec=str, type=str)
        number = variables.get("id") or f"view{len(self.views)}"
        self.views[number] = {**variables, "spec": json.loads(variables["spec"])}
        project = {
            "id": "p1",
            "name": variables["projectName"],
            "entityName": variables["entityName"],
        }
        view = {
            "id": number, "type": variables["type"], "name": variables["name"],
            "displayName": variables["displayName"], "description": variables["description"],
            "project": project, "spec": variables["spec"], "updatedAt": "2026-01-01T00:00:00",
        }  # fmt: skip
        return {"upsertView": {"view": view, "inserted": True}}


def handler(service: Service) -> type[BaseHTTPRequestHandler]:
    """Return the class that handles the HTTP requests of a service."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Print no log."""

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
                request = json.loads(raw)
                variables = request.get("variables") or {}
                try:
                    self.reply({"data": service.answer(request["query"], variables)})
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
