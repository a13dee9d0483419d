"""A stand-in for the Hugging Face hub on 127.0.0.1: what hf_hub_download asks for, and what may go wrong with it."""

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_stand_in"
LARGE = ".safetensors"  # suffix of files that the hub stores elsewhere and redirects to


@dataclass
class Hub:
    """What the server answers with; tests change it while it runs.

    Args:
        commits: By repository and revision, a commit.
        files: By commit, the content of each file.
        gated, private: Repositories.
        status: Status with which every request fails, as when the hub is down.
        fault: What is wrong with the content of files: `short` is less than the hub states, `cut` a connection that
            breaks off, `changed` another content of the same length.
        requests: Method and path of every request.
    """

    commits: dict[tuple[str, str], str] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    status: int | None = None
    fault: str | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def push(self, repository: str, files: dict[str, bytes], *revisions: str) -> str:
        """Add a commit, which is then the newest one of `main` and of these branches or tags, and return it."""
        commit = hashlib.sha1(f"{repository}{len(self.files)}".encode()).hexdigest()
        self.files[commit] = files
        for revision in ("main", commit, *revisions):
            self.commits[repository, revision] = commit
        return commit

    def refusal(self, repository: str, revision: str, name: str, token: str | None) -> tuple[int, str] | None:
        """Return status and X-Error-Code of a request that the hub refuses, as it answers it."""
        known = {name for name, _ in self.commits}
        if token not in (None, f"Bearer {TOKEN}"):
            return 401, ""
        if repository not in known or (repository in self.private and token is None):
            return 401, "RepoNotFound"
        if repository in self.gated and token is None:
            return 401, "GatedRepo"
        if (repository, revision) not in self.commits:
            return 404, "RevisionNotFound"
        if name not in self.files[self.commits[repository, revision]]:
            return 404, "EntryNotFound"
        return None


def etag(name: str, content: bytes) -> str:
    """Return the hash that the hub states: SHA-256 of a large file, git's own for a small one."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers `/owner/name/resolve/revision/file` and, for large files, where this redirects to."""

    def do_HEAD(self):
        hub: Hub = self.server.hub
        hub.requests.append((self.command, self.path))
        parts = self.path.strip("/").split("/")
        if hub.status is not None:
            self.answer(hub.status)
        elif parts[0] == "large":
            self.answer_content(hub.files[parts[1]][parts[2]])
        else:
            repository, revision, name = "/".join(parts[:2]), "/".join(parts[3:-1]).replace("%2F", "/"), parts[-1]
            refusal = hub.refusal(repository, revision, name, self.headers.get("Authorization"))
            if refusal is not None:
                wrong_token = {} if refusal[1] else {"X-Error-Message": "Invalid credentials in Authorization header"}
                self.answer(refusal[0], {"X-Error-Code": refusal[1], **wrong_token})
                return
            commit = hub.commits[repository, revision]
            content = hub.files[commit][name]
            headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(name, content)}"'}
            if name.endswith(LARGE):
                place = f"http://localhost:{self.server.server_port}/large/{commit}/{name}"  # another host
                linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content)), "Location": place}
                self.answer(302, {**headers, **linked, "ETag": '"of the redirect"'})
            else:
                self.answer_content(content, headers)

    do_GET = do_HEAD

    def answer_content(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        fault, sent = self.server.hub.fault, content
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if fault == "changed":
            sent = content[:-1] + bytes([content[-1] ^ 1])
        elif fault is not None and self.command == "GET":
            sent = content[: len(content) // 2]
        length = (len(content) if fault == "cut" else len(sent)) - start
        self.answer(206 if start else 200, {**(headers or {}), "Content-Length": str(length)})
        if self.command == "GET":
            self.wfile.write(sent[start:])
            self.close_connection = fault == "cut"

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def serve() -> tuple[ThreadingHTTPServer, str]:
    """Start a server in a thread; return it, its `hub` empty, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"
