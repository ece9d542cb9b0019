"""Publishing and fetching over the wire: the real client, a real server on this machine, and what goes wrong."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys

import pytest
import torch
from huggingface_hub import close_session, constants
from safetensors.torch import load_file, save_file

import ganzoo
import hub_server
import nvidia
import offline
from ganzoo import HubError, WeightsError
from ganzoo.data.loading import load
from ganzoo.files import file_hash
from ganzoo.store import client, hub, manifest, publish
from ganzoo.store.manifest import CONFIG, DISCRIMINATOR, MODEL
from ganzoo.store.models import verify
from ganzoo.store.source import find
from ganzoo.ui.space import write_space
from hub_server import ORG, READ_TOKEN, STRANGER_TOKEN, WRITE_TOKEN, HubServer

# The client's own doing in every LFS upload; in the suite all other warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = f"{ORG}/dcgan.mine"
SMALL = {"steps": 3, "batch_size": 16, "generator": {"hidden": [16]}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ganzoo.train(ganzoo.TrainConfig("vanilla", out=str(tmp_path_factory.mktemp("runs") / "vanilla"), **SMALL))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub, an empty cache, and a token that may write."""
    monkeypatch.setattr(client, "WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")[2]
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.url}/{{repo_id}}{template}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
        close_session()
        yield server
    close_session()


@pytest.fixture
def pushed(server, run):
    return publish.push(run, REPO, license="mit", discriminator=True)


def empty_cache():
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)


# There and back


@pytest.mark.slow
def test_push_lose_everything_pull_by_hash_same_bits(server, run, tmp_path):
    """The whole way, by the command line in processes of its own, with nothing but the environment."""
    shutil.copytree(run.folder, tmp_path / "run")
    env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": WRITE_TOKEN}
    env["OMP_NUM_THREADS"] = "1"

    def command(*arguments):
        words = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "ganzoo", *map(str, arguments)]
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False)

    assert command("sample", "./run", "-n", 70, "--seed", 5, "-o", "before.npy").returncode == 0
    done = command("push", "./run", REPO, "--license", "mit", "--tag", "v1", "--message", "First")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{server.url}/{REPO}\n"
    pin = done.stderr.split("pinned: ")[1].strip()
    assert pin == f"hf-hub:{REPO}@{server.repos[REPO].resolve('v1').id}"
    assert next(iter(server.repos[REPO].history())).title == "First"
    assert WRITE_TOKEN not in done.stdout + done.stderr

    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    env["HF_TOKEN"] = ""
    done = command("pull", pin)
    assert done.returncode == 0, done.stderr
    assert command("verify", pin).returncode == 0
    assert command("sample", f"hf-hub:{REPO}", "-o", "online.png").returncode == 0
    server.stop()
    done = command("sample", pin, "-n", 70, "--seed", 5, "-o", "after.npy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "before.npy").read_bytes() == (tmp_path / "after.npy").read_bytes()
    done = command("sample", f"hf-hub:{REPO}", "-o", "main.png")
    assert done.returncode == 0, done.stderr
    assert "using the cached commit" in done.stderr
    done = command("sample", f"hf-hub:{ORG}/other", "-o", "other.png")
    assert done.returncode == 1
    assert "not in the cache" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any("pytorch_model" in path for _, path in server.requests)


def test_an_imported_stylegan2_there_and_back(server, ganzoo_cli, tmp_path):
    """From a pickle in NVIDIA's form to a published model, and back with the same bits, truncated or not."""
    small = {"image_size": 16, "channel_base": 64, "channel_max": 8}
    g, d = ganzoo.create("stylegan2", generator={"z_dim": 8, "w_dim": 8}, **small)
    nvidia.dump({"G_ema": nvidia.generator(g), "D": nvidia.discriminator(d)}, tmp_path / "network.pkl")
    code, _, err = ganzoo_cli("import", "stylegan2", "network.pkl", "--discriminator", "-o", "./mine")
    assert code == 0, err
    pushed = publish.push(tmp_path / "mine", f"{ORG}/stylegan2.mine", license="mit", discriminator=True)
    source = f"hf-hub:{ORG}/stylegan2.mine@{pushed.commit}"
    assert ganzoo_cli("verify", source)[0] == 0
    before, after = ganzoo.from_pretrained("./mine"), ganzoo.from_pretrained(source)
    for options in ({}, {"truncation": 0.5}):
        assert torch.equal(ganzoo.sample(after, 3, **options), ganzoo.sample(before, 3, **options))
    card = (find(source) / "README.md").read_text()
    assert (
        f"imported from `network.pkl`, key `G_ema`, a file with the SHA-256 `{file_hash(tmp_path / 'network.pkl')}`"
        in card
    )


def test_a_generator_of_sounds_there_and_back(server, ganzoo_cli, tmp_path):
    small = {"generator": {"width": 2}, "discriminator": {"width": 2}}
    run = ganzoo.train(ganzoo.TrainConfig("wavegan", steps=1, batch_size=4, conditional=True, out="run", **small))
    pushed = publish.push(run, f"{ORG}/wavegan.tones", license="apache-2.0", discriminator=True)
    source = f"hf-hub:{ORG}/wavegan.tones@{pushed.commit}"
    code, _, err = ganzoo_cli("verify", source)
    assert code == 0, err
    g = ganzoo.from_pretrained(source)
    assert (g.sampling_rate, g.class_names) == (4096, ["low", "middle", "high"])
    assert torch.equal(ganzoo.sample(g, 3, labels="high"), ganzoo.sample(run.generator, 3, labels=2))
    code, out, err = ganzoo_cli("sample", source, "-n", "2", "-o", "x.wav")
    assert (code, out) == (0, "x.wav\n"), err
    tuned = ganzoo.train(ganzoo.TrainConfig("wavegan", steps=1, batch_size=4, start=source, out="tuned"))
    assert tuned.generator.config["width"] == tuned.discriminator.config["width"] == 2


def test_a_translator_there_and_back(server, tmp_path):
    """With the inputs that its golden images were made from, and in both directions."""
    small = {"generator": {"width": 4, "blocks": 1}, "discriminator": {"width": 4}, "steps": 2, "batch_size": 4}
    small |= {"image_size": 16, "out": str(tmp_path / "run")}
    run = ganzoo.train(ganzoo.TrainConfig("cyclegan", inputs="edges", **small))
    pushed = publish.push(run, f"{ORG}/cyclegan.mine", license="mit", discriminator=True)
    source = f"hf-hub:{ORG}/cyclegan.mine@{pushed.commit}"
    verify(find(source, manifest.FILES))
    before, after = ganzoo.from_pretrained(str(run.folder)), ganzoo.from_pretrained(source)
    inputs = load_file(find(source, manifest.FILES) / manifest.GOLDEN)["inputs"]
    for direction in ("AB", "BA"):
        images = ganzoo.sample(after, inputs=inputs, direction=direction)
        assert torch.equal(images, ganzoo.sample(before, inputs=inputs, direction=direction))


@pytest.mark.parametrize("name", offline.INPUTS)
def test_a_translation_there_and_back(server, ganzoo_cli, name):
    narrow = {"generator": {"width": 4}, "discriminator": {"width": 4}}
    settings = {"image_size": 16, "inputs": offline.INPUTS[name], "steps": 1, "batch_size": 4, "out": "run", **narrow}
    run = ganzoo.train(ganzoo.TrainConfig(name, **settings))
    pushed = publish.push(run, f"{ORG}/{name}.mine", license="mit")
    source = f"hf-hub:{ORG}/{name}.mine@{pushed.commit}"
    assert ganzoo_cli("verify", source)[0] == 0
    before, after = ganzoo.from_pretrained("./run"), ganzoo.from_pretrained(source)
    inputs = load("digits", image_size=16, inputs=offline.INPUTS[name]).inputs[:3]
    assert torch.equal(ganzoo.sample(after, inputs=inputs), ganzoo.sample(before, inputs=inputs))


def test_a_pinned_cached_revision_needs_no_request(server, pushed, run):
    source = f"hf-hub:{REPO}@{pushed.commit}"
    first = ganzoo.sample(ganzoo.from_pretrained(source), 3)
    server.requests.clear()
    assert torch.equal(ganzoo.sample(ganzoo.from_pretrained(source), 3), first)
    assert torch.equal(ganzoo.sample(run.generator, 3), first)
    assert server.requests == []


def test_only_what_is_needed_of_one_commit_is_fetched(server, pushed):
    server.put(REPO, {"pytorch_model.bin": b"\x80\x04K\x01.", "notes/evil.py": b"raise SystemExit"})
    server.requests.clear()
    ganzoo.from_pretrained(f"hf-hub:{REPO}")
    got = {path for method, path in server.requests if "/resolve/" in path}
    commit = server.repos[REPO].resolve("main").id
    assert got == {f"/{REPO}/resolve/{commit}/{name}" for name in (CONFIG, MODEL)}


def test_revisions(server, pushed, run):
    publish.push(run.folder / "model", REPO, tag="v2", message="Again, without a discriminator")
    files = server.files(REPO, "v2")
    assert DISCRIMINATOR not in files
    assert DISCRIMINATOR in server.files(REPO, pushed.commit)
    for revision in ("v2", "main", None, pushed.commit):
        ganzoo.from_pretrained(f"hf-hub:{REPO}", revision=revision)
    with pytest.raises(HubError, match="no such revision"):
        ganzoo.from_pretrained(f"hf-hub:{REPO}@v3")


def test_the_card_loads_what_was_pushed(server, pushed):
    card = server.files(REPO)["README.md"].decode()
    assert f'from_pretrained("hf-hub:{REPO}")' in card
    assert "library_name: ganzoo" in card
    assert "license: mit" in card
    assert "Weights: mit." in card
    namespace = {}
    exec(card.split("```python\n")[1].split("```")[0], namespace)
    assert namespace["images"].shape == (16, 1, 28, 28)


def test_pushing_a_model_folder_again_changes_nothing(server, pushed, run):
    folder = ganzoo.save_pretrained(run, "mine", discriminator=True, license="mit")
    again = publish.push(folder, REPO)
    assert again.commit == pushed.commit
    relicensed = publish.push(folder, REPO, license="apache-2.0")
    assert relicensed.commit != pushed.commit
    assert b"license: apache-2.0" in server.files(REPO)["README.md"]


def test_the_names_of_classes_arrive(server, tmp_path):
    small = {"generator": {"width": 2, "hidden": 8}, "discriminator": {"width": 2, "hidden": 8}}
    named = ganzoo.train(ganzoo.TrainConfig("dcgan", conditional=True, steps=1, batch_size=8, out="run", **small))
    for source in (named, named.folder / "model"):
        commit = publish.push(source, REPO).commit
        empty_cache()
        assert ganzoo.from_pretrained(f"hf-hub:{REPO}@{commit}").class_names == list("0123456789")


def test_private(server, run):
    publish.push(run, REPO, private=True)
    assert server.repos[REPO].private
    publish.push(run, f"{ORG}/open")
    assert not server.repos[f"{ORG}/open"].private
    with pytest.raises(HubError, match="is public"):
        publish.push(run, f"{ORG}/open", private=True)


def test_search(server, pushed, run, ganzoo_cli):
    publish.push(run, "tester/other")
    server.put("stranger/else", {"README.md": b"---\ntags: [cats]\n---\n"})
    assert {model["id"] for model in hub.search()} == {REPO, "tester/other"}
    code, out, _ = ganzoo_cli("list", "--hub", "--org", ORG, "--json")
    assert code == 0
    (model,) = json.loads(out)
    assert (model["id"], model["commit"], model["license"]) == (REPO, pushed.commit, "mit")


def test_fine_tune_from_the_hub(server, pushed):
    run = ganzoo.train(ganzoo.TrainConfig("vanilla", start=f"hf-hub:{REPO}@{pushed.commit}", steps=1, batch_size=16))
    assert run.generator.config["hidden"] == [16]


def test_publish_prints_lines_that_register(server, run, tmp_path, ganzoo_cli):
    cards = tmp_path / "cards"
    ganzoo.save_pretrained(run, cards / "vanilla.mine", tag="mine", license="mit")
    code, out, err = ganzoo_cli("publish", ORG, "--cards", cards)
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 1

    class Plugin:
        @ganzoo.hookimpl
        def register_weights(self, register):
            for line in lines:
                exec(line, {"register": register})

    ganzoo.register(Plugin(), "pasted")
    try:
        g = ganzoo.from_pretrained("vanilla.mine")
        code, out, _ = ganzoo_cli("list", "--pretrained")
    finally:
        ganzoo.unregister("pasted")
    assert torch.equal(ganzoo.sample(g, 3), ganzoo.sample(run.generator, 3))
    (line,) = [line for line in out.splitlines() if line.startswith("vanilla.mine")]
    for shown in ("28 px", "mit", f"hf-hub:{ORG}/vanilla.mine@", " MB"):
        assert shown in line


# Spaces


@pytest.fixture
def space(run, tmp_path):
    return write_space(str(run.folder), tmp_path / "space")


def test_a_space_is_published_whole(server, space, ganzoo_cli):
    code, out, err = ganzoo_cli("push", space, REPO, "--space")
    assert (code, err) == (0, "")
    assert out == f"{server.url}/spaces/{REPO}\n"
    published = server.repos[f"spaces/{REPO}"]
    assert not published.private
    assert set(published.branches) == {"main"}
    files = published.resolve("main").files
    assert {"app.py", "README.md", "requirements.txt", "model/config.json", "model/model.safetensors"} <= set(files)
    assert files["app.py"].data == (space / "app.py").read_bytes()
    assert REPO not in server.repos  # a model of that name is another repository
    before = published.resolve("main").id
    assert publish.push_space(space, REPO).commit == before  # nothing has changed


def test_a_space_that_fails_midway_stays_private(server, space):
    server.fail(403, path="/commit/")
    with pytest.raises(HubError, match="write access"):
        publish.push_space(space, REPO)
    assert server.repos[f"spaces/{REPO}"].private
    server.clear_faults()
    publish.push_space(space, REPO)
    assert not server.repos[f"spaces/{REPO}"].private
    with pytest.raises(HubError, match="is public"):
        publish.push_space(space, REPO, private=True)


def test_a_space_of_a_published_model_fetches_it_pinned(server, pushed, tmp_path):
    folder = write_space(f"hf-hub:{REPO}", tmp_path / "space", requirement="ganzoo @ git+https://example.com/g")
    assert not (folder / "model").exists()
    assert f"serve_space('hf-hub:{REPO}@{pushed.commit}')" in (folder / "app.py").read_text()
    assert hub_server.front_matter((folder / "README.md").read_text())["models"] == [REPO]
    assert "ganzoo @ git+https://example.com/g" in (folder / "requirements.txt").read_text().splitlines()
    publish.push_space(folder, f"{ORG}/page", private=True)
    assert server.repos[f"spaces/{ORG}/page"].private


def test_what_is_no_space(server, run, space, ganzoo_cli):
    with pytest.raises(WeightsError, match="is no Space"):
        publish.push_space(run.folder, REPO)
    with pytest.raises(WeightsError, match="exists already"):
        write_space(str(run.folder), space)
    code, _, err = ganzoo_cli("push", space, REPO, "--space", "--license", "mit")
    assert code == 1
    assert "leave them out with --space" in err
    text = (space / "README.md").read_text()
    (space / "README.md").write_text(text.replace("colorTo: pink", "colorTo: mauve"))
    with pytest.raises(HubError):
        publish.push_space(space, REPO)


# Faults


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_hub_that_is_busy_for_a_while(server, pushed, status):
    empty_cache()
    faults = [
        server.fail(status, path="/api/models/", method="GET", times=2, headers={"Retry-After": "0"}),
        server.fail(status, path=f"/resolve/.*{MODEL}", method="GET", times=2, headers={"Retry-After": "0"}),
    ]
    ganzoo.from_pretrained(f"hf-hub:{REPO}")
    assert [fault.hits for fault in faults] == [2, 2]


def test_a_hub_that_stays_busy(server, pushed):
    empty_cache()
    server.fail(503, path="/api/models/", times=None)
    with pytest.raises(HubError, match=r"answered 503 each time.*not in the cache"):
        ganzoo.from_pretrained(f"hf-hub:{REPO}")


def test_a_connection_cut_half_way(server, pushed, run):
    empty_cache()
    fault = server.cut(path=f"/resolve/.*{MODEL}", after=500, times=2)
    g = ganzoo.from_pretrained(f"hf-hub:{REPO}")
    assert fault.hits == 2
    assert torch.equal(ganzoo.sample(g, 3), ganzoo.sample(run.generator, 3))


def test_bytes_that_differ_are_fetched_once_more_then_refused(server, pushed):
    empty_cache()
    fault = server.corrupt(path=f"/resolve/.*{MODEL}", times=1)
    ganzoo.from_pretrained(f"hf-hub:{REPO}")
    assert fault.hits == 1
    empty_cache()
    server.clear_faults()
    server.corrupt(path=f"/resolve/.*{MODEL}", times=None)
    with pytest.raises(WeightsError, match="came twice with bytes that differ"):
        ganzoo.from_pretrained(f"hf-hub:{REPO}")
    server.clear_faults()
    ganzoo.from_pretrained(f"hf-hub:{REPO}")  # the bad file did not stay


def test_a_corrupted_cache_is_mended(server, pushed):
    source = f"hf-hub:{REPO}@{pushed.commit}"
    path = (find(source) / MODEL).resolve()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    ganzoo.from_pretrained(source)


def test_a_hub_that_is_gone(server, pushed, caplog):
    ganzoo.from_pretrained(f"hf-hub:{REPO}")
    server.stop()
    ganzoo.from_pretrained(f"hf-hub:{REPO}")
    assert "using the cached commit" in caplog.text
    empty_cache()
    with pytest.raises(HubError, match=r"does not answer.*not in the cache"):
        ganzoo.from_pretrained(f"hf-hub:{REPO}")


def test_a_file_of_any_repository(server, pushed):
    empty_cache()
    path = hub.fetch_file(REPO, CONFIG)
    assert manifest.read_json(path)["architecture"] == "vanilla"
    server.requests.clear()
    assert hub.fetch_file(REPO, CONFIG) == path
    assert server.requests == []
    with pytest.raises(HubError, match="no such repository"):
        hub.fetch_file(f"{ORG}/none", CONFIG)
    with pytest.raises(HubError, match=r"lacks a file|answered 404"):
        hub.fetch_file(REPO, "none.safetensors")


def test_offline(server, pushed, monkeypatch):
    with pytest.raises(HubError, match="ganzoo pull"):
        ganzoo.from_pretrained(f"hf-hub:{REPO}", local_files_only=True)
    ganzoo.from_pretrained(f"hf-hub:{REPO}")
    server.requests.clear()
    ganzoo.from_pretrained(f"hf-hub:{REPO}", local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    ganzoo.from_pretrained(f"hf-hub:{REPO}")
    assert server.requests == []
    with pytest.raises(HubError, match="not whole in the cache"):
        find(f"hf-hub:{REPO}", manifest.FILES)  # the other files were never fetched


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_push_whose_commit_loses_the_connection(server, run, when):
    """Before: done again. After: the commit is there, and is not made twice."""
    fault = server.drop(when=when, path="/commit/")
    pushed = publish.push(run, REPO)
    assert fault.hits == 1
    commits = [commit for commit in server.repos[REPO].history() if CONFIG in commit.files]
    assert [commit.id for commit in commits] == [pushed.commit]
    assert not server.repos[REPO].private


@pytest.mark.parametrize("path", ["/preupload/", "/commit/", r"/info/lfs/", r"/settings"])
def test_a_push_that_fails_midway_shows_nobody_half_a_repository(server, run, path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    server.fail(500, path=path, times=None)
    with pytest.raises(HubError, match=r"cannot push to|answered 500"):
        publish.push(run, REPO)
    repo = server.repos[REPO]
    assert repo.private or CONFIG in repo.resolve("main").files
    server.clear_faults()
    publish.push(run, REPO)
    assert not repo.private
    empty_cache()
    ganzoo.from_pretrained(f"hf-hub:{REPO}")


def test_two_processes_at_once(server, pushed, tmp_path):
    """Both start on an empty cache at the same moment; both end with the whole model."""
    env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    server.stall(seconds=1, path=f"/resolve/.*{MODEL}", method="GET", times=2)  # so that they surely overlap
    command = [sys.executable, "-m", "ganzoo", "verify", f"hf-hub:{REPO}"]
    pulls = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for pull in pulls:
        out, err = pull.communicate()
        assert pull.returncode == 0, err
        assert b"files match" in out


def test_a_hub_that_says_nothing(server, pushed, run, monkeypatch):
    """The client itself would wait for ever."""
    monkeypatch.setattr(client, "TIMEOUT", 0.3)
    empty_cache()
    server.stall(seconds=3, path="/api/", times=None)
    with pytest.raises(HubError, match="does not answer"):
        ganzoo.from_pretrained(f"hf-hub:{REPO}")
    with pytest.raises(HubError, match="does not answer"):
        publish.push(run, f"{ORG}/new")
    with pytest.raises(HubError, match="does not answer"):
        hub.search()


FULL = """
import resource, signal, sys
import ganzoo
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    ganzoo.from_pretrained(sys.argv[1])
except ganzoo.HubError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_full_disk(server, pushed, tmp_path):
    """From 20 kB a file on, the system refuses to write: one line, and no half file is taken for whole later."""
    assert resource.RLIMIT_FSIZE is not None
    assert signal.SIGXFSZ is not None
    env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", FULL, f"hf-hub:{REPO}"], env=env, capture_output=True, text=True, check=False
    )
    assert "cannot fetch" in done.stdout, done.stderr
    script = f"import ganzoo; ganzoo.from_pretrained('hf-hub:{REPO}')"
    subprocess.run([sys.executable, "-c", script], env=env, check=True)


# Who may do what


def test_causes_are_told_apart(server, pushed, run, monkeypatch):
    secret = f"{ORG}/secret"
    publish.push(run, secret, private=True)
    gated = f"{ORG}/gated"
    publish.push(run, gated)
    server.repos[gated].gated = "auto"
    empty_cache()

    def told(source, token):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(HubError) as caught:
            ganzoo.from_pretrained(source)
        assert "\n" not in str(caught.value)
        assert not token or token not in str(caught.value)
        return str(caught.value)

    assert "no such repository, or no access" in told(f"hf-hub:{secret}", STRANGER_TOKEN)
    assert "no such repository, or no access" in told(f"hf-hub:{ORG}/nothing", WRITE_TOKEN)
    assert "is gated" in told(f"hf-hub:{gated}", STRANGER_TOKEN)
    assert "does not accept the token" in told(f"hf-hub:{REPO}", "hf_nonsense")
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(HubError, match="needs write access"):
        publish.push(run, REPO)
    monkeypatch.setenv("HF_TOKEN", STRANGER_TOKEN)
    with pytest.raises(HubError, match=r"write access|no access"):
        publish.push(run, f"{ORG}/new")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="needs a token, and there is none"):
        publish.push(run, f"{ORG}/new")


@pytest.mark.parametrize("name", ["no_slash", "a/b/c", "org/bad name", "org/../x", ""])
def test_bad_repository_names(server, run, name):
    with pytest.raises(HubError):
        publish.push(run, name)
    with pytest.raises(HubError):
        hub.fetch(name)


# Hostile repositories


def model_files(run, tmp_path):
    folder = ganzoo.save_pretrained(run, tmp_path / "hostile")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", [CONFIG, MODEL, "README.md"])
def test_a_file_of_100_gigabytes_is_never_fetched(server, run, tmp_path, name):
    files = model_files(run, tmp_path)
    server.put("stranger/huge", files, sizes={name: 10**11})
    with pytest.raises(WeightsError, match=r"refused|not fetched"):
        hub.fetch("stranger/huge")
    assert not server.seen(f"/resolve/.*{name}", "GET")


def test_settings_of_a_network_that_no_such_file_can_hold(server, run, tmp_path):
    files = model_files(run, tmp_path)
    content = json.loads(files[CONFIG])
    content["generator"]["z_dim"] = 50_000
    server.put("stranger/small", {**files, CONFIG: manifest.config_text(content).encode()})
    with pytest.raises(WeightsError, match="would fit: it is not fetched"):
        hub.fetch("stranger/small")
    assert not server.seen(f"/resolve/.*{MODEL}", "GET")


def test_a_config_that_agrees_that_the_weights_are_huge(server, run, tmp_path):
    files = model_files(run, tmp_path)
    content = json.loads(files[CONFIG])
    content["files"][MODEL]["size"] = 10**11
    server.put("stranger/huge", {**files, CONFIG: manifest.config_text(content).encode()}, sizes={MODEL: 10**11})
    with pytest.raises(WeightsError, match="would fit: it is not fetched"):
        hub.fetch("stranger/huge")
    assert not server.seen(f"/resolve/.*{MODEL}")


def test_names_that_climb_out_are_never_asked_for(server, run, tmp_path):
    files = model_files(run, tmp_path)
    server.put("stranger/climb", {**files, "../../evil.py": b"x", "/etc/evil": b"x", "..\\evil": b"x"})
    hub.fetch("stranger/climb")
    assert not server.seen("evil")
    content = json.loads(files[CONFIG])
    content["files"]["../../evil.py"] = {"size": 1, "sha256": "0" * 64}
    server.put("stranger/climb", {CONFIG: manifest.config_text(content).encode()})
    with pytest.raises(WeightsError, match="evil"):
        hub.fetch("stranger/climb")
    assert not server.seen("evil")


def test_pickles_are_neither_fetched_nor_opened(server, run, tmp_path):
    server.put("stranger/pickle", {"config.json": b'{"format": 1}', "pytorch_model.bin": b"\x80\x04K\x01."})
    with pytest.raises(WeightsError):
        ganzoo.from_pretrained("hf-hub:stranger/pickle")
    server.put("stranger/only", {"generator.pth": b"\x80\x04K\x01."})
    with pytest.raises(WeightsError, match=r"no config\.json; it holds 'generator\.pth', see `ganzoo import`"):
        ganzoo.from_pretrained("hf-hub:stranger/only")
    assert not server.seen(r"\.(bin|pth)")


def evil_config(change):
    def edit(folder):
        content = json.loads((folder / CONFIG).read_text())
        change(content)
        (folder / CONFIG).write_text(manifest.config_text(content))

    return edit


def evil_weights(content):
    def edit(folder):
        (folder / MODEL).write_bytes(content)
        manifest.write_config(folder, json.loads((folder / CONFIG).read_text()))

    return edit


def not_finite(folder):
    tensors = {key: value.clone() for key, value in load_file(folder / MODEL).items()}
    tensors["layers.0.bias"][0] = float("nan")
    save_file(tensors, folder / MODEL)
    manifest.write_config(folder, json.loads((folder / CONFIG).read_text()))


HOSTILE = {
    "an import path": evil_config(lambda c: c.update(architecture="os.path:join")),
    "a class to import": evil_config(lambda c: c.update(auto_map={"AutoModel": "evil.Model"})),
    "a wrong type": evil_config(lambda c: c["generator"].update(hidden="many")),
    "a huge width": evil_config(lambda c: c["generator"].update(hidden=[10**9])),
    "a header of 100 GB": evil_weights(struct.pack("<Q", 10**11) + b"{}"),
    "a pickle under the weights' name": evil_weights(b"\x80\x04cos\nsystem\n(S'touch executed'\ntR."),
    "weights that are not finite": not_finite,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_content_is_refused_in_one_line(server, run, tmp_path, workplace, ganzoo_cli, case):
    folder = ganzoo.save_pretrained(run, tmp_path / "hostile")
    HOSTILE[case](folder)
    server.put("stranger/evil", {path.name: path.read_bytes() for path in folder.iterdir()})
    for command in (("sample", "-o", "x.png"), ("verify",), ("train", "vanilla", "--steps", "1", "--from")):
        code, out, err = ganzoo_cli(*command, "hf-hub:stranger/evil")
        assert (code, out, err.count("\n")) == (1, "", 1), err
    assert not (workplace / "executed").exists()
    assert not (workplace / "x.png").exists()


def test_a_listing_that_is_not_json(server, pushed):
    empty_cache()
    server.corrupt(path="/api/models/", at=0, times=None)
    with pytest.raises(HubError):
        ganzoo.from_pretrained(f"hf-hub:{REPO}")


def test_the_server_itself_is_sound(server):
    assert server.errors == []
    assert hub_server.USER
