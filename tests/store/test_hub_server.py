"""The test hub itself, driven by the real `huggingface_hub` client over HTTP."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

# Read by the client when it is imported.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import httpx2
import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, close_session, constants
from huggingface_hub import errors as hf
from safetensors.numpy import load_file, save

import hub_server
from hub_server import ORG, READ_TOKEN, STRANGER_TOKEN, USER, WRITE_TOKEN, HubServer, Token

# The client's own doing in every LFS upload; in the suite all other warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "tester/dcgan"
CARD = b"""---
library_name: ganzoo
pipeline_tag: unconditional-image-generation
license: apache-2.0
tags:
- ganzoo
- dcgan
released: 2026-01-02
---
# DCGAN
"""


def weights(seed=0):
    return save({"layer.weight": np.random.default_rng(seed).standard_normal((8, 8)).astype("float32")})


FILES = {
    "README.md": CARD,
    "config.json": b'{"arch": "dcgan"}\n',
    "model.safetensors": weights(),
    "samples/a.txt": b"a",
}


@pytest.fixture
def server():
    with HubServer() as server:
        yield server
    close_session()


@pytest.fixture
def api(server):
    return HfApi(endpoint=server.url, token=WRITE_TOKEN)


@pytest.fixture
def anyone(server):
    return HfApi(endpoint=server.url, token=False)


@pytest.fixture
def fetch(server, tmp_path, anyone):
    """hf_hub_download into a cache of this test, as bytes."""

    def fetch(name, repo=REPO, api=anyone, **options):
        return Path(api.hf_hub_download(repo, name, cache_dir=tmp_path / "cache", **options)).read_bytes()

    return fetch


def publish(api, files=FILES, repo=REPO, **options):
    return api.create_commit(
        repo, [CommitOperationAdd(path, data) for path, data in files.items()], commit_message="Publish", **options
    )


# Writing


def test_publish_and_look(server, api, anyone):
    url = api.create_repo(REPO)
    assert (str(url), url.repo_id) == (f"{server.url}/{REPO}", REPO)
    first = api.model_info(REPO).sha
    info = publish(api, parent_commit=first)
    assert info.oid != first
    assert info.commit_url == f"{server.url}/{REPO}/commit/{info.oid}"
    assert set(server.files(REPO)) == {*FILES, ".gitattributes"}
    assert {path: server.files(REPO)[path] for path in FILES} == FILES

    model = anyone.model_info(REPO, files_metadata=True)
    assert (model.id, model.author, model.sha, model.private, model.gated) == (REPO, USER, info.oid, False, False)
    assert model.library_name == "ganzoo"
    assert model.pipeline_tag == "unconditional-image-generation"
    assert set(model.tags) >= {"ganzoo", "dcgan", "license:apache-2.0", "safetensors"}
    assert model.card_data.license == "apache-2.0"
    assert model.last_modified > model.created_at
    siblings = {sibling.rfilename: sibling for sibling in model.siblings}
    data = FILES["model.safetensors"]
    lfs = siblings["model.safetensors"].lfs
    assert (lfs.sha256, lfs.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert siblings["config.json"].lfs is None
    assert siblings["config.json"].size == len(FILES["config.json"])
    blob = b"blob %d\0%b" % (len(FILES["config.json"]), FILES["config.json"])
    assert siblings["config.json"].blob_id == hashlib.sha1(blob).hexdigest()
    assert anyone.model_info(REPO, expand=["sha"]).tags is None
    assert anyone.model_info(REPO, revision=first).tags == []

    assert [commit.title for commit in anyone.list_repo_commits(REPO)] == ["Publish", "initial commit"]
    assert server.seen("/lfs/", "PUT")
    api.delete_repo(REPO)
    assert not api.repo_exists(REPO)


def test_unchanged_files_are_not_sent_again(server, api):
    api.create_repo(REPO)
    first = publish(api)
    assert publish(api).oid == first.oid
    assert len(server.seen("/commit/", "POST")) == len(server.seen("/lfs/", "PUT")) == 1
    second = publish(api, {**FILES, "config.json": b"{}"})
    assert second.oid != first.oid
    assert len(server.seen("/lfs/", "PUT")) == 1
    found = api.get_paths_info(REPO, ["config.json", "samples", "model.safetensors"], expand=True)
    assert [entry.last_commit.oid for entry in found] == [second.oid, first.oid, first.oid]


def test_uploads_of_other_kinds(server, api, tmp_path):
    api.create_repo(REPO)
    (tmp_path / "model.safetensors").write_bytes(weights(1))
    api.upload_file(path_or_fileobj=tmp_path / "model.safetensors", path_in_repo="model.safetensors", repo_id=REPO)
    api.upload_file(path_or_fileobj=b"", path_in_repo="empty.safetensors", repo_id=REPO)
    api.upload_file(path_or_fileobj=b"\x89PNG\r\n\x1a\n\0", path_in_repo="grid.png", repo_id=REPO)
    api.upload_file(path_or_fileobj="é".encode() * 300, path_in_repo="notes.txt", repo_id=REPO)
    is_lfs = {entry.path: entry.lfs is not None for entry in api.list_repo_tree(REPO)}
    assert is_lfs == {
        ".gitattributes": False,
        "model.safetensors": True,
        "empty.safetensors": False,
        "grid.png": True,
        "notes.txt": False,
    }
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "big.bin").write_bytes(bytes(3_000_000))
    (tmp_path / "folder" / "small.txt").write_bytes(b"small")
    api.upload_folder(repo_id=REPO, folder_path=tmp_path / "folder", path_in_repo="in")
    assert server.files(REPO)["in/big.bin"] == bytes(3_000_000)
    api.create_commit(
        REPO,
        [CommitOperationDelete("in/", is_folder=True), CommitOperationDelete("notes.txt")],
        commit_message="Tidy",
    )
    assert set(server.files(REPO)) == {".gitattributes", "model.safetensors", "empty.safetensors", "grid.png"}
    with pytest.raises(hf.EntryNotFoundError, match="doesn't exist"):
        api.delete_file("nothing", REPO)


def test_branches_and_tags(server, api, anyone):
    api.create_repo(REPO)
    first = publish(api).oid
    api.create_tag(REPO, tag="v1", tag_message="The first")
    api.create_branch(REPO, branch="try/it", revision=first)
    second = api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=REPO, revision="try/it").oid
    assert anyone.model_info(REPO, revision="try/it").sha == second
    assert anyone.model_info(REPO, revision="v1").sha == anyone.model_info(REPO, revision=first[:7]).sha == first
    refs = anyone.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "try/it": second}
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [("v1", "refs/tags/v1", first)]
    for make in (lambda: api.create_tag(REPO, tag="v1"), lambda: api.create_branch(REPO, branch="try/it")):
        with pytest.raises(hf.HfHubHTTPError, match="409"):
            make()
    api.create_tag(REPO, tag="v1", exist_ok=True)
    api.delete_tag(REPO, tag="v1")
    api.delete_branch(REPO, branch="try/it")
    for revision in ("v1", "try/it", "nonsense", "0" * 40):
        with pytest.raises(hf.RevisionNotFoundError):
            anyone.model_info(REPO, revision=revision)
        with pytest.raises(hf.RevisionNotFoundError):
            anyone.list_repo_files(REPO, revision=revision)
    with pytest.raises(hf.HfHubHTTPError, match="403"):
        api.delete_branch(REPO, branch="main")
    with pytest.raises(hf.RevisionNotFoundError):
        api.delete_tag(REPO, tag="v1")
    with pytest.raises(hf.RevisionNotFoundError):
        publish(api, revision="nowhere")


def test_a_stale_parent_is_refused(server, api):
    api.create_repo(REPO)
    parent = api.model_info(REPO).sha
    first = publish(api, parent_commit=parent)
    with pytest.raises(hf.HfHubHTTPError, match="A commit has happened since") as refused:
        publish(api, {"config.json": b"{}"}, parent_commit=parent)
    assert refused.value.response.status_code == 412
    assert api.model_info(REPO).sha == first.oid


def test_of_many_at_once_one_wins(server, api):
    api.create_repo(REPO)
    parent = api.model_info(REPO).sha
    outcomes = []

    def one(number):
        try:
            outcomes.append(publish(api, {"config.json": b"%d" % number}, parent_commit=parent).oid)
        except hf.HfHubHTTPError as error:
            outcomes.append(error.response.status_code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(412) == 3
    assert [commit.id for commit in server.repos[REPO].history()] == [api.model_info(REPO).sha, parent]


def test_card_metadata_is_validated(server, api):
    api.create_repo(REPO)
    with pytest.raises(ValueError, match="Invalid metadata"):
        publish(api, {"README.md": b"---\ntags: [\n---\n"})
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        publish(api, {"README.md": b"# No metadata\n"})
    assert api.model_info(REPO).tags == []


def test_creating_what_exists(server, api):
    api.create_repo(REPO, private=True)
    with pytest.raises(hf.HfHubHTTPError, match="409"):
        api.create_repo(REPO)
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    assert api.model_info(REPO).private
    assert api.create_repo("plain").repo_id == "tester/plain"
    assert api.create_repo(f"{ORG}/shared").repo_id == f"{ORG}/shared"
    assert not api.model_info("tester/plain").private


# Who may


def test_who_is_it(server, api):
    me = api.whoami()
    assert (me["name"], me["auth"]["accessToken"]["role"]) == (USER, "write")
    assert [org["name"] for org in me["orgs"]] == [ORG]
    assert api.whoami(token=READ_TOKEN)["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(hf.HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_wrong")
    assert server.tokens_seen == {WRITE_TOKEN, READ_TOKEN, "hf_wrong"}


def test_private(server, api, fetch):
    api.create_repo(f"{ORG}/secret", private=True)
    publish(api, repo=f"{ORG}/secret")
    for token, status in ((False, 401), (STRANGER_TOKEN, 404)):
        for look in (api.model_info, api.list_repo_files, api.auth_check, api.list_repo_refs):
            with pytest.raises(hf.RepositoryNotFoundError) as refused:
                look(f"{ORG}/secret", token=token)
            assert refused.value.response.status_code == status
        with pytest.raises(hf.RepositoryNotFoundError):
            fetch("config.json", f"{ORG}/secret", token=token)
        with pytest.raises(hf.RepositoryNotFoundError):
            publish(api, {"config.json": b"{}"}, f"{ORG}/secret", token=token)
        assert not list(api.list_models(author=ORG, token=token))
    with pytest.raises(hf.HfHubHTTPError, match="401") as bad:
        api.model_info(f"{ORG}/secret", token="hf_wrong")
    assert not isinstance(bad.value, hf.RepositoryNotFoundError)
    assert fetch("config.json", f"{ORG}/secret", token=READ_TOKEN) == FILES["config.json"]
    assert [model.private for model in api.list_models(author=ORG, token=READ_TOKEN)] == [True]
    api.update_repo_settings(f"{ORG}/secret", private=False)
    assert not api.model_info(f"{ORG}/secret", token=False).private


@pytest.mark.parametrize(("token", "status"), [(READ_TOKEN, 403), (STRANGER_TOKEN, 403), (False, 401)])
def test_writes_that_are_not_allowed(server, api, token, status):
    server.put(REPO, FILES)
    before = server.repos[REPO].branches["main"]
    writes = [
        lambda: api.create_repo("tester/new", token=token),
        lambda: api.delete_repo(REPO, token=token),
        lambda: publish(api, {"config.json": b"{}"}, token=token),
        lambda: api.create_tag(REPO, tag="v1", token=token),
        lambda: api.auth_check(REPO, write=True, token=token),
    ]
    for write in writes:
        with pytest.raises(hf.HfHubHTTPError) as refused:
            write()
        assert refused.value.response.status_code == status
        assert not isinstance(refused.value, hf.RepositoryNotFoundError)
    assert server.repos[REPO].branches == {"main": before}
    api.auth_check(REPO, token=token)


def test_gated(server, api, fetch):
    server.put(REPO, FILES)
    api.update_repo_settings(REPO, gated="manual")
    assert api.model_info(REPO, token=False).gated == "manual"
    for token in (False, STRANGER_TOKEN):
        with pytest.raises(hf.GatedRepoError):
            fetch("config.json", token=token)
        with pytest.raises(hf.GatedRepoError):
            api.auth_check(REPO, token=token)
    server.repos[REPO].granted.add("stranger")
    server.tokens["hf_another"] = Token("stranger", "read")
    assert fetch("config.json", token="hf_another") == FILES["config.json"]


def test_missing(server, api, anyone, fetch, tmp_path):
    for client, status in ((anyone, 401), (api, 404)):
        with pytest.raises(hf.RepositoryNotFoundError) as missing:
            client.model_info("tester/nothing")
        assert missing.value.response.status_code == status
    commit = server.put(REPO, FILES)
    with pytest.raises(hf.RemoteEntryNotFoundError):
        fetch("pytorch_model.bin")
    assert (tmp_path / f"cache/models--tester--dcgan/.no_exist/{commit}/pytorch_model.bin").exists()
    with pytest.raises(hf.RevisionNotFoundError):
        fetch("config.json", revision="v9")
    with pytest.raises(hf.EntryNotFoundError):
        list(api.list_repo_tree(REPO, "nowhere"))
    assert anyone.file_exists(REPO, "config.json")
    assert not anyone.file_exists(REPO, "other.json")


# Reading


def test_download_by_branch_tag_and_commit(server, api, anyone, fetch):
    first = server.put(REPO, FILES)
    server.repos[REPO].tags["v1"] = first
    second = server.put(REPO, {"config.json": b'{"arch": "wgan"}'})
    assert fetch("config.json") == b'{"arch": "wgan"}'
    assert fetch("config.json", revision="v1") == FILES["config.json"]
    assert fetch("model.safetensors", revision=second) == FILES["model.safetensors"]
    assert fetch("samples/a.txt") == b"a"

    server.requests.clear()
    assert fetch("config.json", revision=first) == FILES["config.json"]  # pinned and in the cache: no request at all
    assert server.requests == []
    assert fetch("config.json") == b'{"arch": "wgan"}'
    assert server.requests == [("HEAD", f"/{REPO}/resolve/main/config.json")]
    assert server.tokens_seen == set()
    fetch("config.json", api=api, force_download=True)
    assert server.requests[-1] == ("GET", f"/{REPO}/resolve/main/config.json")
    assert server.tokens_seen == {WRITE_TOKEN}
    assert anyone.resolve_revision(REPO, revision="v1").resolved == first
    plan = anyone.hf_hub_download(REPO, "model.safetensors", dry_run=True)
    assert (plan.file_size, plan.commit_hash) == (len(FILES["model.safetensors"]), second)


def test_snapshot(server, anyone, tmp_path):
    commit = server.put(REPO, {**FILES, "pytorch_model.bin": b"\x80pickle"})
    patterns = ["config.json", "*.safetensors"]
    folder = anyone.snapshot_download(REPO, cache_dir=tmp_path, allow_patterns=patterns, max_workers=2)
    assert Path(folder).name == commit
    assert {path.name for path in Path(folder).iterdir()} == {"config.json", "model.safetensors"}
    assert load_file(Path(folder) / "model.safetensors")["layer.weight"].shape == (8, 8)
    assert not server.seen(r"pytorch_model\.bin")
    assert anyone.verify_repo_checksums(REPO, cache_dir=tmp_path, revision=commit).mismatches == []


def test_tree(server, anyone):
    server.put(REPO, {**FILES, "a/b/c.txt": b"c", "a/d.txt": b"d"})
    paths = ["README.md", "a", "config.json", "model.safetensors", "samples"]
    assert [entry.path for entry in anyone.list_repo_tree(REPO)] == paths
    assert [entry.path for entry in anyone.list_repo_tree(REPO, "a")] == ["a/b", "a/d.txt"]
    deep = ["a/b", "a/b/c.txt", "a/d.txt"]
    assert [entry.path for entry in anyone.list_repo_tree(REPO, "a", recursive=True)] == deep
    server.page_size = 2
    everything = list(anyone.list_repo_tree(REPO, recursive=True, expand=True))
    assert len(everything) == len({entry.path for entry in everything}) == 9
    assert len(server.seen("/tree/.*cursor=")) == 4
    info = {entry.path: entry for entry in anyone.get_paths_info(REPO, ["a", "model.safetensors", "no"])}
    assert set(info) == {"a", "model.safetensors"}
    assert info["model.safetensors"].lfs.sha256 == hashlib.sha256(FILES["model.safetensors"]).hexdigest()


def test_list_models(server, api, anyone):
    for name in ("tester/one", "tester/two", "other/three"):
        server.put(name, FILES)
    server.put("tester/plain", {"config.json": b"{}"})
    server.put("tester/secret", FILES, private=True)
    server.put("tester/broken", {"README.md": b"---\n\t: [\n---\n"})
    server.put("tester/dated", {"README.md": b"---\ndate: 2026-13-01\n---\n"})
    server.put("tester/listed", {"README.md": b"---\n- 1\n---\n"})
    server.put("tester/odd", {"README.md": b"---\ntags: [{a: b}, 2026-01-01, 7]\n2026-01-01: 1\n---\n"})
    assert [model.id for model in anyone.list_models(filter="ganzoo")] == ["other/three", "tester/two", "tester/one"]
    assert [model.id for model in anyone.list_models(filter=["ganzoo", "dcgan"], author="other")] == ["other/three"]
    assert [model.id for model in anyone.list_models(filter=["ganzoo", "wgan"])] == []
    assert [model.id for model in anyone.list_models(search="PLAIN")] == ["tester/plain"]
    assert len(list(anyone.list_models())) == 8
    assert len(list(api.list_models())) == 9
    assert len(list(anyone.list_models(pipeline_tag="unconditional-image-generation"))) == 3
    server.page_size = 2
    assert len(list(anyone.list_models())) == 8
    assert len(server.seen("/api/models.*cursor=")) == 3
    assert len(list(anyone.list_models(limit=3))) == 3
    server.repos["tester/one"].downloads = 7
    (top,) = anyone.list_models(sort="downloads", limit=1)
    assert (top.id, top.downloads, top.sha, top.siblings, top.card_data) == ("tester/one", 7, None, None, None)
    (top,) = anyone.list_models(search="one", full=True, cardData=True)
    assert top.sha == server.repos["tester/one"].branches["main"]
    assert {sibling.rfilename for sibling in top.siblings} == set(FILES)
    assert top.card_data.library_name == "ganzoo"
    (top,) = anyone.list_models(search="one", expand=["sha", "lastModified"])
    assert top.last_modified is not None
    assert top.tags is None


def test_ranges_and_keep_alive(server):
    server.put(REPO, {"data.txt": bytes(range(65, 91))})
    with httpx2.Client(base_url=server.url) as client:
        for asked, status, body in [
            ("bytes=2-4", 206, b"CDE"),
            ("bytes=24-", 206, b"YZ"),
            ("bytes=-2", 206, b"YZ"),
            ("bytes=0-99", 206, bytes(range(65, 91))),
            ("bytes=26-", 416, None),
            ("lines=1-2", 200, bytes(range(65, 91))),
        ]:
            answer = client.get(f"/{REPO}/resolve/main/data.txt", headers={"Range": asked})
            assert answer.status_code == status
            assert body is None or answer.content == body
        assert client.get("/nothing/here/at/all").status_code == 404
        assert len(server._http.open) == 1  # one connection did all of it


def test_what_the_client_does_not_do(server, api):
    api.create_repo(REPO)
    body, auth = b"0123456789" * 20_000, {"Authorization": f"Bearer {WRITE_TOKEN}"}
    oid = hashlib.sha256(body).hexdigest()
    with httpx2.Client(base_url=server.url) as client:
        assert client.put(f"/lfs/{REPO}/{oid}", content=body).status_code == 403  # was not announced
        asked = {"operation": "upload", "objects": [{"oid": oid, "size": len(body)}]}
        answer = client.post(f"/{REPO}.git/info/lfs/objects/batch", json=asked, headers=auth).json()
        href = answer["objects"][0]["actions"]["upload"]["href"]
        assert client.put(href, content=body[:-1]).status_code == 400
        assert client.put(href, content=iter([body[:7], body[7:]])).status_code == 200  # in chunks
        assert server.repos[REPO].lfs == {oid: body}
        head = {"key": "header", "value": {"summary": "Evil"}}
        for path in ("../x", "/x", "a//b", ".git/config"):
            file = {"key": "file", "value": {"path": path, "content": "", "encoding": "base64"}}
            lines = "\n".join(map(json.dumps, (head, file)))
            answer = client.post(f"/api/models/{REPO}/commit/main", content=lines, headers=auth)
            assert (answer.status_code, "Invalid path" in answer.json()["error"]) == (400, True)
        lfs = {"key": "lfsFile", "value": {"path": "x", "oid": "0" * 64, "size": 1}}
        lines = "\n".join(map(json.dumps, (head, {**file, "value": {**file["value"], "path": "y"}}, lfs)))
        answer = client.post(f"/api/models/{REPO}/commit/main", content=lines, headers=auth)
        assert (answer.status_code, set(server.files(REPO))) == (400, {".gitattributes"})  # all or nothing


def test_safetensors_metadata_needs_only_a_range(server, anyone):
    server.put(REPO, FILES)
    metadata = anyone.get_safetensors_metadata(REPO)
    assert metadata.parameter_count == {"F32": 64}


# The back door


def test_hostile_names_and_sizes(server, anyone, tmp_path):
    evil = {"../evil": b"x", "/etc/passwd": b"x", "a/../../b": b"x", "C:\\x": b"x", "new\nline": b"x", "\x1b[31m": b"x"}
    server.put(REPO, {**evil, "config.json": b"{}", "huge.txt": b"start", "gone": b""}, sizes={"huge.txt": 10**11})
    server.put(REPO, {"gone": None}, sizes={})
    assert set(anyone.list_repo_files(REPO)) == {*evil, "config.json", "huge.txt"}
    with pytest.raises(ValueError, match="filename"):
        anyone.snapshot_download(REPO, cache_dir=tmp_path, allow_patterns=["../evil"])
    (huge,) = anyone.get_paths_info(REPO, "huge.txt")
    assert huge.size == huge.lfs.size == 10**11
    plan = anyone.hf_hub_download(REPO, "huge.txt", cache_dir=tmp_path, dry_run=True)
    assert plan.file_size == 10**11
    with httpx2.stream("GET", f"{server.url}/{REPO}/resolve/main/huge.txt") as answer:
        assert answer.headers["Content-Length"] == str(10**11)
        assert next(answer.iter_raw())[:6] == b"start\0"
    with pytest.raises(hf.EntryNotFoundError):
        anyone.hf_hub_download(REPO, "a\nb: c", cache_dir=tmp_path)


def test_smaller_made_up_files_are_ordinary(server, fetch):
    server.put(REPO, {"config.json": b"{}"}, sizes={"config.json": 100})
    assert fetch("config.json") == b"{}" + bytes(98)


def test_put_on_a_branch(server, anyone):
    first = server.put(REPO, FILES)
    second = server.put(REPO, {"config.json": b"[]"}, branch="dev", message="Try")
    assert server.repos[REPO].branches == {"main": first, "dev": second}
    assert [commit.title for commit in anyone.list_repo_commits(REPO, revision="dev")] == ["Try", "Put"]
    server.put("tester/odd", FILES, branch="dev")
    assert anyone.model_info("tester/odd").sha == anyone.model_info("tester/odd", revision="dev").sha


# The faults


def test_fail_on_what_the_client_retries(server, anyone):
    server.put(REPO, FILES)
    fault = server.fail(503, path="/tree/", times=1)
    assert set(anyone.list_repo_files(REPO)) == set(FILES)
    assert (fault.hits, len(server.seen("/tree/"))) == (1, 2)


def test_fail_in_order_and_clear(server, anyone):
    server.put(REPO, FILES)
    first = server.fail(503, path=f"/{REPO}$")
    second = server.fail(429, path="/api/", headers={"Retry-After": "0"}, times=2)
    server.fail(500, path="/api/", method="POST", times=None)
    for status in (503, 429):
        with pytest.raises(hf.HfHubHTTPError) as failed:
            anyone.model_info(REPO)
        assert failed.value.response.status_code == status
    assert failed.value.response.headers["Retry-After"] == "0"
    assert (first.hits, second.hits) == (1, 1)
    server.clear_faults()
    assert anyone.model_info(REPO).id == REPO
    server.fail(404, code="RevisionNotFound")
    with pytest.raises(hf.RevisionNotFoundError):
        anyone.model_info(REPO)


def test_fail_a_file(server, fetch):
    server.put(REPO, FILES)
    server.fail(502, path="/resolve/", method="GET")
    with pytest.raises(hf.HfHubHTTPError, match="502"):
        fetch("config.json")
    assert fetch("config.json") == FILES["config.json"]
    fault = server.cut(after=1)
    server.fail(500, path="model", method="GET")
    with pytest.raises(hf.HfHubHTTPError, match="500"):
        fetch("model.safetensors")
    assert fault.hits == 0  # an error is not what it waits for


def test_a_failed_upload_is_repeated(server, api):
    api.create_repo(REPO)
    fault = server.fail(500, path="^/lfs/", method="PUT")
    publish(api)
    assert fault.hits == 1
    assert len(server.seen("^/lfs/", "PUT")) == 2
    assert server.files(REPO)["model.safetensors"] == FILES["model.safetensors"]


def test_cut(server, fetch):
    server.put(REPO, FILES)
    fault = server.cut(r"model\.safetensors", after=100)
    assert fetch("model.safetensors") == FILES["model.safetensors"]  # the client starts again
    assert (fault.hits, len(server.seen("model.safetensors", "GET"))) == (1, 2)
    server.cut("/api/models/", after=5)
    with pytest.raises(httpx2.RemoteProtocolError, match="received 5 bytes"):
        HfApi(endpoint=server.url, token=False).model_info(REPO)


def test_corrupt(server, fetch):
    server.put(REPO, FILES)
    fault = server.corrupt(r"\.safetensors")
    broken, whole = fetch("model.safetensors"), FILES["model.safetensors"]
    assert fault.hits == 1
    assert (len(broken), broken[:-1], broken[-1]) == (len(whole), whole[:-1], whole[-1] ^ 1)
    assert fetch("model.safetensors") == broken  # from the cache
    assert fetch("model.safetensors", force_download=True) == whole
    server.corrupt("config.json", at=0)
    assert fetch("config.json")[:2] == b"z" + FILES["config.json"][1:2]


def test_stall(server, anyone):
    server.put(REPO, FILES)
    fault = server.stall(path="/api/models/", seconds=5)
    with pytest.raises(httpx2.ReadTimeout):
        anyone.model_info(REPO, timeout=0.1)
    assert fault.hits == 1
    assert anyone.model_info(REPO, timeout=5).id == REPO
    server.stall(seconds=0.05)
    started = time.monotonic()
    anyone.model_info(REPO)
    assert time.monotonic() - started >= 0.05


def test_lie_about_sizes(server, anyone, fetch, tmp_path):
    server.put(REPO, FILES)
    fault = server.lie_size(r"model\.safetensors$", size=5)
    sizes = {entry.path: entry.size for entry in anyone.list_repo_tree(REPO) if hasattr(entry, "size")}
    assert (sizes["model.safetensors"], sizes["config.json"]) == (5, len(FILES["config.json"]))
    siblings = {sibling.rfilename: sibling for sibling in anyone.model_info(REPO, files_metadata=True).siblings}
    assert siblings["model.safetensors"].size == siblings["model.safetensors"].lfs.size == 5
    with pytest.raises(OSError, match="should be of size 5"):
        fetch("model.safetensors")
    assert fault.hits == 3
    server.clear_faults()
    server.lie_size(r"model\.safetensors$", size=7, method="HEAD")
    (entry,) = anyone.get_paths_info(REPO, "model.safetensors")
    assert entry.size == len(FILES["model.safetensors"])
    assert anyone.hf_hub_download(REPO, "model.safetensors", cache_dir=tmp_path, dry_run=True).file_size == 7


def test_drop_a_commit(server, api):
    api.create_repo(REPO)
    first = api.model_info(REPO).sha
    fault = server.drop(when="before")
    with pytest.raises(httpx2.RemoteProtocolError):
        publish(api)
    assert api.model_info(REPO).sha == first
    server.drop(when="after")
    with pytest.raises(httpx2.RemoteProtocolError):
        publish(api)
    landed = api.model_info(REPO)
    assert landed.sha != first
    assert fault.hits == 1
    assert publish(api).oid == landed.sha  # nothing left to do
    assert len(list(server.repos[REPO].history())) == 2


# Coming and going


def test_a_hub_that_is_gone_and_back(server, anyone, fetch):
    commit = server.put(REPO, FILES)
    fetch("config.json")
    server.stop()
    with pytest.raises(httpx2.ConnectError):
        anyone.model_info(REPO)
    assert fetch("config.json") == FILES["config.json"]  # from the cache
    before = server.url
    server.stop()  # nothing to do
    server.start()
    assert server.start().url == before
    assert anyone.model_info(REPO).sha == commit


def test_stopping_is_quick_whatever_is_under_way(server, anyone):
    server.put(REPO, FILES)
    server.stall(path="/api/", seconds=60)
    caught = []

    def wait():
        try:
            anyone.model_info(REPO)
        except httpx2.HTTPError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not server.requests:
        time.sleep(0.01)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 2
    thread.join(5)
    assert len(caught) == 1
    assert not [thread for thread in threading.enumerate() if "process_request" in thread.name]


def test_a_bug_in_the_server_is_told(monkeypatch):
    monkeypatch.setattr(hub_server._Handler, "describe", lambda *_: 1 / 0)

    def ask():
        with HubServer() as server:
            server.put(REPO, FILES)
            with pytest.raises(httpx2.RemoteProtocolError):
                HfApi(endpoint=server.url, token=False).model_info(REPO)

    with pytest.raises(ZeroDivisionError):
        ask()


def test_the_environment_alone_is_enough(server, tmp_path):
    server.put(REPO, FILES)
    env = {
        **os.environ,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path),
        "HF_TOKEN": READ_TOKEN,
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    env.pop("HF_HUB_DISABLE_XET")  # what is only read needs no switch
    script = f"from huggingface_hub import snapshot_download; print(snapshot_download({REPO!r}))"
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert json.loads((Path(done.stdout.strip()) / "config.json").read_text()) == {"arch": "dcgan"}
    assert server.tokens_seen == {READ_TOKEN}
    assert {method for method, _ in server.requests} == {"GET", "HEAD"}


def test_the_client_is_the_real_one():
    assert constants.HF_HUB_DISABLE_XET
    assert constants.HF_HUB_DISABLE_TELEMETRY
