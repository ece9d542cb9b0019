"""A Hugging Face Hub for tests: a real HTTP server on 127.0.0.1 that the unmodified `huggingface_hub` client talks to.

    with HubServer() as server:
        commit = server.put("org/name", {"config.json": b"{}"})            # the back door: any content, any file name
        fault = server.fail(503, path="/resolve/", method="GET", times=2)  # the faults: what networks and hubs do
        api = HfApi(endpoint=server.url, token=WRITE_TOKEN)                # or HF_ENDPOINT=server.url
        ...
        assert fault.hits == 2
        assert not server.seen("pytorch_model.bin")

Everything is in memory. Only models and Spaces, plain LFS and no Xet (the client needs HF_HUB_DISABLE_XET=1). Where it
matters to a client it answers as the Hub does: status, X-Error-Code, headers, paging, what becomes LFS. Tests may look
into and change `repos`, `tokens` and `page_size` at will. The key of a Space in `repos` begins with "spaces/".
"""

import base64
import codecs
import hashlib
import itertools
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlencode

import yaml  # type: ignore[import-untyped]

USER, ORG, STRANGER = "tester", "gan-lab", "stranger"
WRITE_TOKEN, READ_TOKEN, STRANGER_TOKEN = "hf_testerCanWrite01", "hf_testerCanOnlyRead02", "hf_strangerCanWrite03"

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".npy", ".h5", ".onnx", ".zip", ".gz")
LFS_SIZE = 10 * 2**20
CHUNK = 2**16
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
LISTED = ["_id", "id", "modelId", "createdAt", "downloads", "likes", "library_name", "pipeline_tag", "private", "tags"]
LISTED_IN_FULL = ["author", "sha", "lastModified", "gated", "disabled", "siblings"]


@dataclass(frozen=True)
class Token:
    """Who a token stands for and what it may do."""

    user: str
    role: Literal["read", "write"]
    orgs: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in (self.user, *self.orgs)


@dataclass(frozen=True)
class File:
    """A file's content: `data`, then zeros up to `size` (never held in memory; such a file's sha256 is made up)."""

    data: bytes
    size: int
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        whole = len(self.data) == self.size
        return hashlib.sha256(self.data if whole else b"%d %b" % (self.size, self.data)).hexdigest()

    @cached_property
    def blob(self) -> bytes:
        """What git itself stores: the content, or a pointer to it."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        return pointer.encode() if self.lfs else self.data

    @cached_property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0%b" % (len(self.blob), self.blob)).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        for begin in range(start, stop, CHUNK):
            end = min(begin + CHUNK, stop)
            yield self.data[begin:end].ljust(end - begin, b"\0")


@dataclass(frozen=True)
class Commit:
    """One commit with all the files it holds."""

    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Mapping[str, File]

    @cached_property
    def card(self) -> dict[str, Any]:
        try:
            return front_matter(self.files["README.md"].data.decode(errors="replace"))
        except (KeyError, yaml.YAMLError):
            return {}

    @property
    def tags(self) -> list[str]:
        """The tags a model is found by: those of its card, and what its other facts amount to."""
        tags = [self.card.get("library_name"), *as_list(self.card.get("tags")), self.card.get("pipeline_tag")]
        tags += ["safetensors"] if any(path.endswith(".safetensors") for path in self.files) else []
        for key, prefix in (("language", ""), ("datasets", "dataset:"), ("license", "license:")):
            tags += [f"{prefix}{value}" for value in as_list(self.card.get(key))]
        return list(dict.fromkeys(str(tag) for tag in tags if tag))


@dataclass
class Repo:
    """A repository. `gated` keeps its files, not its listing, from all but its owners and `granted` users."""

    id: str
    created: str
    private: bool = False
    gated: str | Literal[False] = False
    granted: set[str] = field(default_factory=set)
    downloads: int = 0
    likes: int = 0
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    promised: dict[str, int] = field(default_factory=dict)
    shelf: Literal["models", "spaces"] = "models"

    def resolve(self, revision: str) -> Commit:
        """The commit a branch, a tag or a (shortened) commit id means."""
        ids = [table[revision] for table in (self.branches, self.tags) if revision in table]
        if not ids and re.fullmatch("[0-9a-f]{7,40}", revision):
            ids = [commit for commit in self.commits if commit.startswith(revision)]
        if not ids:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[ids[0]]

    def history(self, revision: str = "main") -> Iterator[Commit]:
        """The commits of a revision, the latest first."""
        commit: Commit | None = self.resolve(revision)
        while commit:
            yield commit
            commit = self.commits[commit.parent] if commit.parent else None


@dataclass
class Fault:
    """Something that goes wrong `times` times (None: always); `hits` says how often it has."""

    kind: str
    value: Any
    path: re.Pattern[str]
    method: str | None
    times: int | None
    hits: int = 0


@dataclass
class Reply:
    """What goes back: `length` bytes, from `chunks`."""

    status: int
    headers: dict[str, str]
    chunks: Iterable[bytes]
    length: int

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Self:
        data = json.dumps(value, default=str, skipkeys=True).encode()  # YAML may hold dates
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, [data], len(data))


class HubError(Exception):
    """An answer other than success; `code` is what the client tells its errors apart by."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None):
        super().__init__(message)
        told = {"X-Error-Message": message.encode("unicode_escape").decode()}  # no line breaks in headers
        told |= {"X-Error-Code": code} if code else {}
        self.reply = Reply.json({"error": message}, status, told | dict(headers or {}))


class HubServer:
    """The hub: state, back door, faults and the log. `stop` makes it go away, `start` come back, same port and all."""

    def __init__(self, page_size: int = 1000):
        self.page_size = page_size
        self.repos: dict[str, Repo] = {}
        self.tokens = {
            WRITE_TOKEN: Token(USER, "write", (ORG,)),
            READ_TOKEN: Token(USER, "read", (ORG,)),
            STRANGER_TOKEN: Token(STRANGER, "write"),
        }
        self.requests: list[tuple[str, str]] = []
        self.tokens_seen: set[str] = set()
        self.faults: list[Fault] = []
        self.errors: list[BaseException] = []
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self._port = 0
        self._time = datetime(2026, 1, 1, tzinfo=UTC)
        self._http: _Http | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Listen, on the same port as before if there was one."""
        self.stop()
        self.stopping.clear()
        self._http = _Http(("127.0.0.1", self._port), self)
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), name="hub", daemon=True).start()
        return self

    def stop(self) -> None:
        """Cut every connection and refuse new ones; repositories, log and faults stay."""
        if self._http:
            self.stopping.set()
            self._http.shutdown()
            self._http.close()
            self._http = None

    def __enter__(self) -> Self:
        return self if self._http else self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if self.errors and kind is None:
            raise self.errors[0]  # a bug in here: the client only saw its connection close

    # The log and the back door

    def seen(self, path: str = "", method: str | None = None) -> list[tuple[str, str]]:
        """The logged requests whose path (with its query) matches a regular expression."""
        return [entry for entry in self.requests if method in (None, entry[0]) and re.search(path, entry[1])]

    def put(
        self,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        message: str = "Put",
        branch: str = "main",
        private: bool | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> str:
        """Commit files (None removes one) without asking anyone: no name is refused; returns the commit's id.

        `sizes` makes files longer than their bytes, with zeros that are made up while they are sent.
        """
        with self.lock:
            repo = self.repos.setdefault(repo_id, Repo(repo_id, self.now()))
            repo.private = repo.private if private is None else private
            start = branch if branch in repo.branches else "main"
            held = dict(repo.resolve(start).files) if start in repo.branches else {}
            for path, data in files.items():
                held.pop(path, None)
                if data is not None:
                    size = max((sizes or {}).get(path, 0), len(data))
                    data = data if size > LFS_SIZE else data.ljust(size, b"\0")
                    held[path] = File(data, size, goes_to_lfs(path, size, data[:512]))
            return self.commit(repo, branch, held, message).id

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """What a repository holds."""
        return {path: file.data for path, file in self.repos[repo_id].resolve(revision).files.items()}

    def now(self) -> str:
        """A clock of its own, a second later at each look: times differ, and are the same in every run."""
        self._time += timedelta(seconds=1)
        return self._time.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def commit(
        self, repo: Repo, branch: str, files: Mapping[str, File], title: str, message: str = "", author: str = USER
    ) -> Commit:
        parent = repo.branches.get(branch) or repo.branches.get("main")
        facts = (parent, title, message, author, self.now())
        listing = [(path, file.oid) for path, file in sorted(files.items())]
        digest = hashlib.sha1(json.dumps([facts, listing]).encode()).hexdigest()
        repo.commits[digest] = Commit(digest, *facts, files)
        repo.branches[branch] = digest
        repo.branches.setdefault("main", digest)
        return repo.commits[digest]

    # The faults. They strike where `path`, a regular expression, is found in the path with its query, `method` fits
    # (None: any) and `times` are not used up (None: never); of several of a kind, the first such one.

    def fail(
        self, status: int = 503, *, headers: Mapping[str, str] | None = None, code: str = "", **where: Any
    ) -> Fault:
        """Answer with an error, e.g. 429 and `headers={"Retry-After": "0"}`, and do nothing."""
        error = HubError(status, f"This server was told to answer {status}", code, headers)
        return self._fault("fail", error.reply, **where)

    def stall(self, *, seconds: float, **where: Any) -> Fault:
        """Stay silent for a while, then answer as usual."""
        return self._fault("stall", seconds, **where)

    def drop(self, *, when: Literal["before", "after"], path: str = "/commit/", **where: Any) -> Fault:
        """Close the connection without an answer, before or after doing what was asked."""
        return self._fault(when, None, path, **where)

    def cut(self, path: str = "/resolve/", *, after: int, method: str = "GET", **where: Any) -> Fault:
        """Close the connection once `after` bytes of the body are sent, whatever Content-Length promised."""
        return self._fault("cut", after, path, method, **where)

    def corrupt(self, path: str = "/resolve/", *, at: int = -1, method: str = "GET", **where: Any) -> Fault:
        """Flip a bit of the body's byte `at` (-1: the last one, in a safetensors file some weight's)."""
        return self._fault("corrupt", at, path, method, **where)

    def lie_size(self, path: str, *, size: int, times: int | None = None, **where: Any) -> Fault:
        """Announce another size than a file's, in HEAD (method "HEAD") and in listings (method "GET") alike.

        `path` is searched in "/NS/NAME/resolve/REVISION/PATH", for listings too.
        """
        return self._fault("lie", size, path, times=times, **where)

    def clear_faults(self) -> None:
        with self.lock:
            self.faults.clear()

    def _fault(self, kind: str, value: Any, path: str = "", method: str | None = None, times: int | None = 1) -> Fault:
        fault = Fault(kind, value, re.compile(path), method, times)
        with self.lock:
            self.faults.append(fault)
        return fault

    def strike(self, kind: str, method: str, path: str) -> Fault | None:
        """The fault of a kind that is due for a request, counted."""
        with self.lock:
            for fault in self.faults:
                due = fault.kind == kind and (fault.times is None or fault.hits < fault.times)
                if due and fault.method in (None, method) and fault.path.search(path):
                    fault.hits += 1
                    return fault
        return None


class _Http(ThreadingHTTPServer):
    """Keeps track of its connections: kept alive by the client, they would outlive the server."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], hub: HubServer):
        self.hub = hub
        self.open: set[socket.socket] = set()
        self.changed = threading.Condition()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.changed:
            self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.changed:
            self.open.discard(request)
            self.changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error and not isinstance(error, ConnectionError):  # a client may hang up at any time
            self.hub.errors.append(error)

    def close(self) -> None:
        self.socket.close()
        with self.changed:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster
            self.changed.wait_for(lambda: not self.open, timeout=5)
        self.server_close()


ROUTES: list[tuple[list[str], re.Pattern[str], str | None, Callable[..., Any]]] = []


def route(methods: str, *paths: str, need: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Answer these paths with a method, which gets their parts and returns a Reply or what becomes JSON.

    `need` is what the token must be good for: "read" (the listings of a repository), "files" or "write". API and SHELF
    in a path stand for those of models and of Spaces.
    """
    parts = {"repo": "(?P<repo>[^/]+/[^/]+)", "rev": "(?P<rev>[^/]+)", "path": "(?P<path>.+)"}

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for path in paths:
            pattern = re.compile(
                path.format_map(parts)
                .replace("API", "/api/(?P<shelf>models|spaces)")
                .replace("SHELF", "(?:/(?P<shelf>spaces))?")
            )
            ROUTES.append((methods.split(), pattern, need, function))
        return function

    return register


class _Handler(BaseHTTPRequestHandler):
    """A connection, with the request that is being answered."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the client to acknowledge the head
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the log is `HubServer.requests`."""

    def serve(self) -> None:
        self.hub, self.body = self.server.hub, self.read_body()
        self.secret = self.headers.get("Authorization", "").partition(" ")[2]
        self.place, _, query = self.path.partition("?")  # stays percent-encoded: a branch name may hold a slash
        self.query = parse_qs(query)
        with self.hub.lock:
            self.hub.requests.append((self.command, self.path))
            self.hub.tokens_seen |= {self.secret} - {""}
        if stall := self.strike("stall"):
            self.hub.stopping.wait(stall.value)
        reply = None
        if not self.hub.stopping.is_set() and not self.strike("before"):
            failure = self.strike("fail")
            reply = failure.value if failure else self.answer()
        if reply and not self.strike("after"):
            self.send(reply)
        else:
            self.close_connection = True

    do_HEAD = do_GET = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    def read_body(self) -> bytes:
        def read(length: int) -> bytes:
            if len(data := self.rfile.read(length)) < length:
                raise ConnectionError("the client hung up")
            return data

        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return read(int(self.headers.get("Content-Length", 0)))
        chunks: list[bytes] = []
        while not chunks or chunks[-1]:
            chunks.append(read(int(self.rfile.readline(), 16)))
            self.rfile.readline()
        return b"".join(chunks)

    def strike(self, kind: str) -> Fault | None:
        return self.hub.strike(kind, self.command, self.path)

    def send(self, reply: Reply) -> None:
        has_body = self.command != "HEAD" and reply.length > 0
        cut, corrupt = (self.strike(kind) if has_body and reply.status < 400 else None for kind in ("cut", "corrupt"))
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(reply.length)}.items():
            self.send_header(name, value)
        self.end_headers()
        flip = corrupt.value % reply.length if corrupt else -1
        stop = min(cut.value, reply.length) if cut else reply.length
        sent = 0
        for chunk in reply.chunks if has_body else ():
            data = bytearray(chunk)
            if sent <= flip < sent + len(data):
                data[flip - sent] ^= 1
            self.wfile.write(data[: stop - sent])
            sent += len(data)
            if sent >= stop:
                break
        self.close_connection |= cut is not None

    def answer(self) -> Reply:
        try:
            for methods, pattern, need, function in ROUTES:
                if self.command in methods and (match := pattern.fullmatch(self.place)):
                    parts: dict[str, Any] = {name: unquote(text) for name, text in match.groupdict().items() if text}
                    with self.hub.lock:  # one request at a time sees and changes the state: commits are atomic
                        self.token = self.hub.tokens.get(self.secret)
                        if self.secret and not self.token:
                            raise HubError(401, "Invalid credentials in Authorization header")
                        shelf = parts.pop("shelf", "models")
                        if need:
                            parts["repo"] = self.repo(key(parts["repo"], shelf), need)
                        result = function(self, **parts)
                    return result if isinstance(result, Reply) else Reply.json(result)
            raise HubError(404, "Sorry, we can't find the page you are looking for.")
        except HubError as error:
            return error.reply

    # What the endpoints share

    def json(self) -> Any:
        return json.loads(self.body)

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() == "true"

    def repo(self, repo_id: str, need: str) -> Repo:
        own_id = repo_id.removeprefix("spaces/")
        repo, owner = self.hub.repos.get(repo_id), self.token is not None and self.token.owns(own_id)
        if repo is None or (repo.private and not owner):
            raise HubError(404 if self.token else 401, "Repository not found", "RepoNotFound")
        if need == "files" and repo.gated and not owner and (not self.token or self.token.user not in repo.granted):
            raise HubError(403 if self.token else 401, f"Access to model {repo_id} is restricted", "GatedRepo")
        if need == "write":
            self.allow_write(own_id)
        return repo

    def allow_write(self, repo_id: str) -> None:
        if self.token is None:
            raise HubError(401, "Invalid username or password.")
        if self.token.role != "write" or not self.token.owns(repo_id):
            raise HubError(403, f"You don't have the rights to write to {repo_id} with this token")

    def named_repo(self) -> str:
        """The repository that a body speaks of."""
        asked = self.json()
        if asked.get("type") not in (None, "model", "space"):
            raise HubError(400, "This server knows only models and Spaces")
        return f"{asked.get('organization') or (self.token.user if self.token else '')}/{asked['name']}"

    def page(self, items: list[Any]) -> Reply:
        """The page of a listing that is asked for, with a link to the next one."""
        start = int(self.query.get("cursor", ["0"])[0])
        stop = start + min(self.hub.page_size, int(self.query.get("limit", [self.hub.page_size])[0]))
        query = urlencode({**self.query, "cursor": [stop]}, doseq=True)
        link = {"Link": f'<{self.hub.url}{self.place}?{query}>; rel="next"'} if stop < len(items) else {}
        return Reply.json(items[start:stop], headers=link)

    def size(self, repo: Repo, revision: str, path: str) -> int:
        """The size to announce for a file."""
        method = "HEAD" if self.command == "HEAD" else "GET"
        lie = self.hub.strike("lie", method, f"/{repo.id}/resolve/{revision}/{path}")
        return lie.value if lie else repo.resolve(revision).files[path].size

    def entry(self, repo: Repo, revision: str, path: str, expand: bool) -> dict[str, Any]:
        """A file or a folder as `tree` and `paths-info` show it."""

        def content(commit: Commit) -> list[tuple[str, str]]:
            held = commit.files.items()
            return sorted((name, file.oid) for name, file in held if name == path or name.startswith(f"{path}/"))

        now, file = content(repo.resolve(revision)), repo.resolve(revision).files.get(path)
        oid = file.oid if file else hashlib.sha1(json.dumps(now).encode()).hexdigest()
        entry: dict[str, Any] = {"type": "file" if file else "directory", "path": path, "size": 0, "oid": oid}
        if file:
            entry["size"] = size = self.size(repo, revision, path)
            if file.lfs:
                entry["lfs"] = {"oid": file.sha256, "size": size, "pointerSize": len(file.blob)}
        if expand:
            *_, last = itertools.takewhile(lambda commit: content(commit) == now, repo.history(revision))
            entry["lastCommit"] = {"id": last.id, "title": last.title, "date": last.date}
        return entry

    def describe(self, repo: Repo, revision: str = "main") -> dict[str, Any]:
        """All that is known about a model."""
        commit, siblings = repo.resolve(revision), []
        for path, file in sorted(commit.files.items()):
            sibling: dict[str, Any] = {"rfilename": path}
            if self.flag("blobs"):
                size = self.size(repo, revision, path)
                sibling.update(blobId=file.oid, size=size)
                if file.lfs:
                    sibling["lfs"] = {"sha256": file.sha256, "size": size, "pointerSize": len(file.blob)}
            siblings.append(sibling)
        facts = {
            "_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24],
            "id": repo.id,
            "modelId": repo.id,
            "author": repo.id.partition("/")[0],
            "sha": commit.id,
            "createdAt": repo.created,
            "lastModified": commit.date,
            "private": repo.private,
            "gated": repo.gated,
            "disabled": False,
            "downloads": repo.downloads,
            "likes": repo.likes,
            "library_name": commit.card.get("library_name"),
            "pipeline_tag": commit.card.get("pipeline_tag"),
            "tags": commit.tags,
            "cardData": commit.card or None,
            "siblings": siblings,
        }
        return {name: value for name, value in facts.items() if value is not None}

    # Reading

    @route("HEAD GET", "SHELF/{repo}/resolve/{rev}/{path}", need="files")
    def download(self, repo: Repo, rev: str, path: str) -> Reply:
        commit = repo.resolve(rev)
        if path not in commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.id})
        file = commit.files[path]
        size = self.size(repo, rev, path) if self.command == "HEAD" else file.size
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(size)}
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not match or not any(match.groups()):
            return Reply(200, headers, file.chunks(0, size), size)
        first, last = match.groups()
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= stop:
            raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return Reply(206, headers, file.chunks(start, stop), stop - start)

    @route("GET", "API")
    def list_models(self) -> Reply:
        found = []
        for repo in self.hub.repos.values():
            facts = self.describe(repo)
            if (
                (not repo.private or (self.token and self.token.owns(repo.id)))
                and set(self.query.get("filter", [])) <= set(facts["tags"])
                and self.query.get("author", [facts["author"]])[0] == facts["author"]
                and self.query.get("pipeline_tag", [facts.get("pipeline_tag")])[0] == facts.get("pipeline_tag")
                and self.query.get("search", [""])[0].lower() in repo.id.lower()
            ):
                found.append(facts)
        order = self.query.get("sort", ["lastModified"])[0]
        found.sort(key=lambda facts: facts[order if order in facts else "lastModified"], reverse=True)
        keys = LISTED + (LISTED_IN_FULL if self.flag("full") else []) + (["cardData"] if self.flag("cardData") else [])
        keys = ["id", *self.query["expand"]] if "expand" in self.query else keys
        return self.page([{key: facts[key] for key in keys if key in facts} for facts in found])

    @route("GET", "API/{repo}", "API/{repo}/revision/{rev}", need="read")
    def model_info(self, repo: Repo, rev: str = "main") -> dict[str, Any]:
        facts = self.describe(repo, rev)
        keys = ["id", *self.query["expand"]] if "expand" in self.query else facts
        return {key: facts[key] for key in keys if key in facts}

    @route("GET", "API/{repo}/tree/{rev}", "API/{repo}/tree/{rev}/{path}", need="read")
    def tree(self, repo: Repo, rev: str, path: str = "") -> Reply:
        prefix = f"{path}/" if path else ""
        inside = sorted(name for name in repo.resolve(rev).files if name.startswith(prefix))
        if path and not inside:
            raise HubError(404, f"{path} does not exist on {rev!r}", "EntryNotFound")
        depth = prefix.count("/")
        paths = [
            step for name in inside for step in lineage(name)[depth : None if self.flag("recursive") else depth + 1]
        ]
        return self.page([self.entry(repo, rev, path, self.flag("expand")) for path in dict.fromkeys(paths)])

    @route("POST", "API/{repo}/paths-info/{rev}", need="read")
    def paths_info(self, repo: Repo, rev: str) -> list[dict[str, Any]]:
        self.query = parse_qs(self.body.decode())  # a form
        known = {step for name in repo.resolve(rev).files for step in lineage(name)}
        paths = [path for path in self.query.get("paths", []) if path in known]
        return [self.entry(repo, rev, path, self.flag("expand")) for path in paths]

    @route("GET", "API/{repo}/refs", need="read")
    def refs(self, repo: Repo) -> dict[str, Any]:
        def listing(kind: str, table: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": id} for name, id in table.items()]

        branches, tags = listing("heads", repo.branches), listing("tags", repo.tags)
        return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}

    @route("GET", "API/{repo}/commits/{rev}", need="read")
    def commits(self, repo: Repo, rev: str) -> Reply:
        found = []
        for commit in repo.history(rev):
            authors = [{"user": commit.author}]
            facts = {"id": commit.id, "title": commit.title, "message": commit.message, "date": commit.date}
            found.append(facts | {"authors": authors})
        return self.page(found)

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> dict[str, Any]:
        if self.token is None:
            raise HubError(401, "Invalid username or password.")
        orgs = [{"type": "org", "name": name} for name in self.token.orgs]
        access = {"displayName": "test", "role": self.token.role}
        return {"type": "user", "name": self.token.user, "orgs": orgs, "auth": {"accessToken": access}}

    @route("GET", "API/{repo}/auth-check", need="files")
    @route("GET", "API/{repo}/auth-check/write", need="write")
    def auth_check(self, repo: Repo) -> dict[str, Any]:
        return {}

    # Repositories, branches and tags

    @route("POST", "/api/repos/create")
    def create_repo(self) -> Reply:
        asked, repo_id = self.json(), self.named_repo()
        self.allow_write(repo_id)
        shelf: Literal["models", "spaces"] = "spaces" if asked.get("type") == "space" else "models"
        if shelf == "spaces" and asked.get("sdk") not in ("gradio", "docker", "static"):
            raise HubError(400, "A Space needs an sdk")
        reply = {"url": f"{self.hub.url}/{key(repo_id, shelf)}", "name": repo_id}
        if key(repo_id, shelf) in self.hub.repos:
            return Reply.json({"error": "You already created this model repo", **reply}, 409)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        repo = self.hub.repos[key(repo_id, shelf)] = Repo(repo_id, self.hub.now(), private, shelf=shelf)
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
        self.hub.commit(repo, "main", {".gitattributes": File(attributes, len(attributes), False)}, "initial commit")
        return Reply.json(reply)

    @route("DELETE", "/api/repos/delete")
    def delete_repo(self) -> dict[str, Any]:
        shelf = "spaces" if self.json().get("type") == "space" else "models"
        repo = self.repo(key(self.named_repo(), shelf), "write")
        del self.hub.repos[key(repo.id, shelf)]
        return {}

    @route("PUT", "API/{repo}/settings", need="write")
    def settings(self, repo: Repo) -> dict[str, Any]:
        asked = self.json()
        repo.private = asked.get("visibility", "private" if repo.private else "public") == "private"
        repo.gated = asked.get("gated", repo.gated)
        return {}

    @route("POST", "API/{repo}/branch/{rev}", need="write")
    def create_branch(self, repo: Repo, rev: str) -> dict[str, Any]:
        return self.create_ref(repo, repo.branches, rev, self.json().get("startingPoint", "main"))

    @route("POST", "API/{repo}/tag/{rev}", need="write")
    def create_tag(self, repo: Repo, rev: str) -> dict[str, Any]:
        return self.create_ref(repo, repo.tags, self.json()["tag"], rev)

    def create_ref(self, repo: Repo, table: dict[str, str], name: str, revision: str) -> dict[str, Any]:
        if name in table:
            raise HubError(409, "Reference already exists")
        table[name] = repo.resolve(revision).id
        return {}

    @route("DELETE", "API/{repo}/(?P<kind>branch|tag)/{rev}", need="write")
    def delete_ref(self, repo: Repo, kind: str, rev: str) -> dict[str, Any]:
        if (kind, rev) == ("branch", "main"):
            raise HubError(403, "The main branch cannot be deleted")
        if (repo.tags if kind == "tag" else repo.branches).pop(rev, None) is None:
            raise HubError(404, "Reference does not exist", "RevisionNotFound")
        return {}

    # Commits

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> Reply:
        try:
            card = front_matter(self.json()["content"])
        except yaml.YAMLError as error:
            return Reply.json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        if self.json().get("repoType") == "space" and (errors := space_faults(card)):
            return Reply.json({"errors": [{"message": error} for error in errors], "warnings": []}, 400)
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        return Reply.json({"errors": [], "warnings": warnings})

    @route("POST", "API/{repo}/preupload/{rev}", need="write")
    def preupload(self, repo: Repo, rev: str) -> dict[str, Any]:
        held, answers = repo.resolve(rev).files, []
        for file in self.json()["files"]:
            lfs = goes_to_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
            answer = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            answers.append(answer | ({"oid": held[file["path"]].etag} if file["path"] in held else {}))
        return {"files": answers}

    @route("POST", r"SHELF/{repo}\.git/info/lfs/objects/batch", need="write")
    def lfs_batch(self, repo: Repo) -> dict[str, Any]:
        objects = []
        for item in self.json()["objects"]:
            if item["oid"] not in repo.lfs:
                repo.promised[item["oid"]] = item["size"]
                place = f"{key(repo.id, repo.shelf)}/{item['oid']}"
                item["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{place}"}}
            objects.append(item)
        return {"transfer": "basic", "objects": objects}

    @route("PUT", "/lfs(?P<space>/spaces)?/{repo}/{path}")
    def lfs_put(self, repo: str, path: str, space: str = "") -> Reply:
        """Keep an object. It comes without a token: the batch's answer was the permission."""
        repo = key(repo, "spaces" if space else "models")
        if repo not in self.hub.repos or path not in self.hub.repos[repo].promised:
            raise HubError(403, "Nobody may upload this here")
        if (len(self.body), hashlib.sha256(self.body).hexdigest()) != (self.hub.repos[repo].promised[path], path):
            raise HubError(400, "The object is not what was announced")
        self.hub.repos[repo].lfs[path] = self.body
        return Reply(200, {"ETag": f'"{path}"'}, [], 0)

    @route("POST", "API/{repo}/commit/{rev}", need="write")
    def commit(self, repo: Repo, rev: str) -> dict[str, Any]:
        if rev not in repo.branches:
            raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        head, header = repo.resolve(rev), {}
        files = dict(head.files)
        for line in self.body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            path = value.get("path", "")
            if key == "header":
                header = value
                if value.get("parentCommit") not in (None, head.id):
                    raise HubError(412, "A commit has happened since. Please refresh and try again.")
            elif key in ("file", "lfsFile"):
                if {"", ".", "..", ".git"} & set(path.split("/")):
                    raise HubError(400, f"Invalid path: {path}")
                if key == "lfsFile" and value["oid"] not in repo.lfs:
                    raise HubError(400, f"The LFS object of {path} was not uploaded")
                data = repo.lfs[value["oid"]] if key == "lfsFile" else base64.b64decode(value["content"])
                files[path] = File(data, len(data), key == "lfsFile")
            elif key in ("deletedFile", "deletedFolder"):
                folder = f"{path.rstrip('/')}/"
                gone = [name for name in files if (name == path if key == "deletedFile" else name.startswith(folder))]
                if not gone:
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                for name in gone:
                    del files[name]
            else:
                raise HubError(400, f"Unknown operation: {key}")
        author = self.token.user if self.token else ""
        made = self.hub.commit(repo, rev, files, header["summary"], header.get("description", ""), author)
        return {"success": True, "commitOid": made.id, "commitUrl": f"{self.hub.url}/{repo.id}/commit/{made.id}"}


def front_matter(card: str) -> dict[str, Any]:
    """The metadata of a model card; raises YAMLError."""
    match = re.match(r"\s*---[ \t]*\r?\n(.*?)^---[ \t\r]*$", card, re.DOTALL | re.MULTILINE)
    try:
        metadata = (yaml.safe_load(match[1]) if match else None) or {}
    except ValueError as error:  # "2026-13-01" looks like a date
        raise yaml.YAMLError(str(error)) from error
    if not isinstance(metadata, dict):
        raise yaml.YAMLError("the metadata is not a mapping")
    return metadata


def key(repo_id: str, shelf: str) -> str:
    """The key of a repository in `HubServer.repos`."""
    return f"spaces/{repo_id}" if shelf == "spaces" else repo_id


def space_faults(card: dict[str, Any]) -> list[str]:
    """What the Hub would refuse in the metadata of a Space
    (https://huggingface.co/docs/hub/spaces-config-reference)."""
    faults = [f"{name} is required" for name in ("emoji", "sdk") if not card.get(name)]
    faults += [f"{name} must be one of {COLOURS}" for name in ("colorFrom", "colorTo") if card.get(name) not in COLOURS]
    if len(card.get("short_description") or "") > 60:
        faults.append("short_description must be at most 60 characters long")
    if not isinstance(card.get("sdk_version", ""), str) or not isinstance(card.get("python_version", ""), str):
        faults.append("versions must be strings")
    return faults


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def lineage(path: str) -> list[str]:
    """A path's folders, outermost first, and the path itself."""
    parts = path.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def goes_to_lfs(path: str, size: int, sample: bytes) -> bool:
    if size == 0:
        return False
    if path.endswith(LFS_SUFFIXES) or size > LFS_SIZE or b"\0" in sample:
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # which may end inside a character
    except UnicodeDecodeError:
        return True
    return False
