"""Each fault of a hub, a network or a cache: what the command says, and that the same command then works."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rkd.cli import main
from rkd.data.hub import HUB_NAME, HUB_REVISION
from rkd.tasks import get
from tests.helpers import ROOT
from tests.hub import server
from tests.hub.conftest import point
from tests.hub.repositories import MINILM, PARAPHRASE, PINS, parquet, wnli_files, wnli_rows
from tests.hub.server import Fault, Hub, Repository, git_digest

COMMAND = ["fetch", "configs/cpu.yaml", "--config", "tasks=[wnli]"]


@dataclass
class World:
    """A hub, a client's cache, and the command that fetches two models and WNLI."""

    hub: Hub
    cache: Path
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture
    log: pytest.LogCaptureFixture

    def fetch(self, *more: str, offline: bool = False, endpoint: str | None = None) -> tuple[int, str]:
        """The exit code, and log and errors, in a client that has just begun."""
        point(self.patch, endpoint or self.hub.endpoint, self.cache, offline)
        self.capture.readouterr()
        self.log.clear()
        with pytest.raises(SystemExit) as end:
            main([*COMMAND, *more])
        return int(end.value.code or 0), self.log.text + self.capture.readouterr().err

    def file(self, name: str, file: str) -> Path:
        """A file in the cache, as a process with a bad disk sees it: not a link to the blob."""
        kind, commit = ("datasets", HUB_REVISION) if name == HUB_NAME else ("models", PINS[name])
        return self.cache / f"{kind}--{name.replace('/', '--')}" / "snapshots" / commit / file

    def whole(self) -> None:
        """What has a name in the cache is byte for byte what the hub has."""
        for (kind, name), repository in self.hub.repositories.items():
            folder = self.cache / f"{kind}s--{name.replace('/', '--')}" / "snapshots"
            for path in (path for path in folder.rglob("*") if path.is_file()):
                commit, file = path.relative_to(folder).as_posix().split("/", 1)
                assert path.read_bytes() == repository.commits[commit][file], path


@pytest.fixture
def world(here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, caplog) -> World:
    monkeypatch.chdir(ROOT)
    return World(here, tmp_path / "cache", monkeypatch, capsys, caplog)


def errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("error: ")]


def test_all_that_a_config_names_is_fetched_once_and_then_read_without_a_request(world):
    assert world.fetch() == (0, "")
    asked = [request for request in world.hub.requests if request.startswith("GET /cdn/")]
    assert len(asked) == len(set(asked)) == 5  # two models, three splits
    world.whole()
    for offline in (False, True):
        world.hub.reset()
        assert world.fetch(offline=offline) == (0, "")
        assert world.hub.requests == []
    assert world.hub.unknown == []


def test_the_output_names_commit_and_size_of_each_part(world):
    with pytest.raises(SystemExit):
        main([*COMMAND, "--json"])
    found = json.loads(world.capture.readouterr().out)
    assert [(each["name"], each["part"]) for each in found] == [
        (MINILM, None),
        (PARAPHRASE, None),
        *((HUB_NAME, f"wnli, {split}") for split in ("train", "validation", "test")),
    ]
    assert [each["revision"] for each in found[:2]] == [PINS[MINILM], PINS[PARAPHRASE]]
    assert all(each["pinned"] for each in found)
    files = world.hub.repositories["model", MINILM].commits[PINS[MINILM]]
    read = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")
    assert found[0]["bytes"] == sum(len(files[name]) for name in read)


def test_a_config_that_takes_nothing_from_the_hub_has_nothing_to_fetch(world):
    with pytest.raises(SystemExit) as end:
        main(["fetch"])
    assert end.value.code == 0
    assert world.capture.readouterr().out == "nothing to fetch: this config takes nothing from the hub\n"
    assert world.hub.requests == []


def test_all_problems_of_a_config_are_told_before_anything_is_fetched(world):
    code, said = world.fetch("seeds=[x]", "max_length=1")
    assert code == 2
    assert "The config has 2 problems:" in said
    assert world.hub.requests == []


# The way to the hub. Each of these passes when it is asked again, or is told in one line and passes the next time.

API, HEAD, CDN = r"GET /api/models/.*MiniLM-L6", r"HEAD /sentence.*L6.*/model\.safetensors", r"GET /cdn/"
MENDED = {
    "the CDN is busy once": Fault(CDN, status=503, times=1),
    "the API is busy once": Fault(API, status=502, times=1),
    "too many requests, twice": Fault(API, status=429, headers={"Retry-After": "1"}, times=2),
    "a header is refused once": Fault(HEAD, status=503, times=1),
    "a download is cut twice": Fault(CDN, cut=1000, times=2),
    "a download is cut before its first byte": Fault(CDN, cut=0, times=1),
    "a file arrives short": Fault(CDN, truncate=10, times=1),
    "a bit flips on the way": Fault(CDN, flip=5000, times=1),
    "a bit of a small file flips on the way": Fault(r"GET /api/resolve-cache/.*vocab\.txt", flip=3, times=1),
    "the data arrive with a flipped bit": Fault(CDN, flip=100, times=1),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_fault_that_passes_is_mended_by_asking_again(world, name):
    world.hub.faults = [MENDED[name]]
    code, said = world.fetch()
    assert (code, errors(said)) == (0, [])
    world.whole()


@dataclass
class Case:
    """A lasting fault, and what the one line of error says."""

    said: str
    faults: tuple[Fault, ...] = ()
    hub: Callable[[Hub], None] | None = None


def gated(hub: Hub) -> None:
    hub.repositories["model", PARAPHRASE].gated = True


def without(name: str) -> Callable[[Hub], None]:
    return lambda hub: hub.repositories.pop(("model", name)) and None


def other_commit(hub: Hub) -> None:
    repository = hub.repositories["model", PARAPHRASE]
    repository.commits = {"0" * 40: next(iter(repository.commits.values()))}


def only(*names: str) -> Callable[[Hub], None]:
    def change(hub: Hub) -> None:
        files = hub.repositories["model", PARAPHRASE].commits[PINS[PARAPHRASE]]
        changed = Repository(PARAPHRASE)
        changed.commit({name: files[name] for name in names}, PINS[PARAPHRASE])
        hub.add(changed)

    return change


BUSY, FLIPPED, LOGIN = Fault(CDN, status=503), Fault(CDN, flip=9), Fault(r"GET /api/models", body="<html>Log in")
LASTING = {
    "the CDN is busy": Case(
        r"all-MiniLM-L6-v2@1110\w+: the hub answered 503: .*expected an answer", (Fault(CDN, status=503),)
    ),
    "the API is busy": Case(r"all-MiniLM-L6-v2@1110\w+: the hub answered 500", (Fault(API, status=500),)),
    "too many requests": Case(r"the hub answered 429", (Fault(API, status=429),)),
    "a header is refused": Case(r"the hub answered 503", (Fault(HEAD, status=503),)),
    "forbidden": Case(r"the hub answered 403", (Fault(API, status=403),)),
    "every download is cut": Case(r"cannot be reached: .*expected a network", (Fault(CDN, cut=0),)),
    "every file arrives short": Case(
        r"cannot be downloaded to .*: Consistency check failed", (Fault(CDN, truncate=1),)
    ),
    "a bit flips each time": Case(
        r"model\.safetensors: found content with the digest \w{64}; expected \w{64}, that of sentence-",
        (Fault(CDN, flip=9),),
    ),
    "a login page answers": Case(
        r"the server at http://127.0.0.1:\d+ is not a hub: .*HF_ENDPOINT",
        (Fault(r"GET /api/models", body="<html>Log in"),),
    ),
    "no such model": Case(
        rf"{PARAPHRASE}@4ca7\w+: the hub knows no such model, or it is private", hub=without(PARAPHRASE)
    ),
    "no such revision": Case(rf"{PARAPHRASE}@4ca7\w+: the hub has no such revision", hub=other_commit),
    "no leave": Case(
        rf"{PARAPHRASE}@4ca7\w+: access is restricted; expected an account with access \(ask",
        hub=gated,
    ),
    "no weights": Case(r"found no weights among 1 files; expected model\.safetensors", hub=only("config.json")),
    "a listed file is gone": Case(
        r"the hub lists a file that it does not have",
        (Fault(r"HEAD .*L3-v2/resolve/\w+/vocab.txt", status=404, headers={"X-Error-Code": "EntryNotFound"}),),
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_fault_that_lasts_is_one_line_and_leaves_nothing_half_made(world, name, contents):
    case = LASTING[name]
    world.hub.faults = list(case.faults)
    if case.hub:
        case.hub(world.hub)
    code, said = world.fetch()
    assert code == 2
    assert len(errors(said)) == 1
    assert re.search(case.said, errors(said)[0]), said
    assert "Traceback" not in said
    # The hub is well again: the same command.
    world.hub.faults = []
    for repository in contents:
        world.hub.add(repository.copy())
    assert world.fetch() == (0, "")
    world.whole()


def test_a_hub_that_nobody_runs_is_told_within_a_few_tries(world):
    code, said = world.fetch(endpoint="http://127.0.0.1:9")
    assert code == 2
    assert re.search(r"the hub http://127.0.0.1:9 cannot be reached: .*`rkd fetch`", errors(said)[0])
    assert said.count("retrying in") == 3
    assert world.fetch() == (0, "")


def test_offline_with_an_empty_cache_names_the_cache_and_the_way_out(world):
    code, said = world.fetch(offline=True)
    assert code == 2
    told = f"{MINILM}@{PINS[MINILM]}: not in the cache {world.cache}/models--sentence-transformers--all-MiniLM-L6-v2"
    assert errors(said) == [
        f"error: {told}, and HF_HUB_OFFLINE=1 does not allow asking the hub; "
        "expected a cache that `rkd fetch` has filled"
    ]
    assert world.hub.requests == []


def test_a_hub_that_does_not_answer_is_not_waited_for_without_end(world, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.2)
    world.hub.faults = [Fault(API, delay=1.0, times=5)]
    code, said = world.fetch()
    assert code == 2
    assert "timed out" in errors(said)[0]


def test_another_commit_than_the_pinned_one_is_refused(world):
    files = world.hub.repositories["model", PARAPHRASE].commits[PINS[PARAPHRASE]]
    moved = world.hub.add(Repository(PARAPHRASE))
    moved.commits, moved.refs = {"0" * 40: files}, {PINS[PARAPHRASE]: "0" * 40}
    code, said = world.fetch()
    assert code == 2
    assert re.search(r"the hub answered with commit '0+'; expected that revision", errors(said)[0])


# The cache.


def damage(path: Path, how: str) -> None:
    """Damage what a name in the cache leads to."""
    content = path.read_bytes()
    changed = {"flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "cut off": content[:-1], "empty": b""}
    path.resolve().write_bytes(changed[how])


DAMAGED = [
    (MINILM, "model.safetensors", "flipped"),
    (MINILM, "model.safetensors", "cut off"),
    (MINILM, "vocab.txt", "flipped"),
    (PARAPHRASE, "config.json", "empty"),
    (HUB_NAME, "wnli/train-00000-of-00001.parquet", "flipped"),
    (HUB_NAME, "wnli/train-00000-of-00001.parquet", "empty"),
]


@pytest.mark.parametrize(("name", "file", "how"), DAMAGED)
def test_a_damaged_cache_is_named_and_fetched_once_more_or_refused_offline(world, name, file, how):
    assert world.fetch()[0] == 0
    damage(world.file(name, file), how)
    code, said = world.fetch(offline=True)
    assert code == 2
    assert re.search(
        rf"{re.escape(str(world.file(name, file)))}: found content with the digest \w+; expected \w+", said
    )
    assert "HF_HUB_OFFLINE=1 does not allow downloading it again" in errors(said)[0]
    code, said = world.fetch()
    assert (code, errors(said)) == (0, [])
    world.whole()
    assert world.fetch(offline=True) == (0, "")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 2, "files": {}}', '{"format_version": 1}'])
def test_a_damaged_list_of_files_is_asked_for_again(world, content):
    assert world.fetch()[0] == 0
    listed = world.file(MINILM, "x").parents[2] / "trees" / f"{PINS[MINILM]}.json"
    listed.write_text(content)
    code, said = world.fetch(offline=True)
    assert code == 2
    assert f"{MINILM}@{PINS[MINILM]}: not in the cache" in errors(said)[0]
    assert world.fetch() == (0, "")
    assert world.fetch(offline=True) == (0, "")


def test_a_wrong_digest_in_the_list_of_files_is_asked_for_again(world):
    assert world.fetch()[0] == 0
    listed = world.file(MINILM, "x").parents[2] / "trees" / f"{PINS[MINILM]}.json"
    weights = world.file(MINILM, "model.safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    listed.write_text(listed.read_text().replace(digest, "0" * 64))
    assert world.fetch()[0] == 0
    assert digest in listed.read_text()


def test_a_file_that_the_commit_does_not_have_is_not_loaded(world):
    assert world.fetch()[0] == 0
    planted = world.file(PARAPHRASE, "adapter_config.json")
    planted.write_text("{}")
    code, said = world.fetch()
    assert code == 2
    assert f"{planted}: found a file that {PARAPHRASE}@{PINS[PARAPHRASE]} does not have" in errors(said)[0]
    planted.unlink()
    assert world.fetch() == (0, "")


def test_a_lost_file_is_fetched_again(world):
    assert world.fetch()[0] == 0
    lost = world.file(MINILM, "model.safetensors")
    lost.resolve().unlink()
    assert "not in the cache" in errors(world.fetch(offline=True)[1])[0]
    assert world.fetch() == (0, "")
    world.whole()


def test_a_cache_that_cannot_be_written_is_named(world):
    world.cache.write_text("a file in its place")
    code, said = world.fetch()
    assert code == 2
    assert len(errors(said)) == 1
    assert str(world.cache) in errors(said)[0]
    world.cache.unlink()
    assert world.fetch() == (0, "")


def test_a_cache_that_cannot_be_written_is_read_when_it_holds_all(world, monkeypatch):
    assert world.fetch()[0] == 0

    def refuse(*_):
        raise AssertionError("written")

    monkeypatch.setattr("rkd.utils.files.atomic_write_text", refuse)
    assert world.fetch() == (0, "")


def test_a_hub_without_digests_is_taken_at_its_word_and_the_log_says_so(world, monkeypatch):
    bare = server._sibling
    monkeypatch.setattr(server, "_sibling", lambda *each: {"rfilename": bare(*each)["rfilename"]})
    code, said = world.fetch()
    assert code == 0
    assert "the hub states no digest of model.safetensors; the file is used without verification" in said


def test_the_digest_of_small_files_is_that_of_git():
    # `printf 'hello\n' | git hash-object --stdin`
    assert git_digest(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


# GLUE's content.


def changed_glue(hub: Hub, split: str = "train", content: bytes | None = None, **files: bytes | None) -> None:
    """The data set at the pinned commit with another file for a split."""
    everything = wnli_files() | ({f"wnli/{split}-00000-of-00001.parquet": content} if content is not None else {})
    repository = Repository(HUB_NAME, "dataset")
    repository.commit({k: v for k, v in (everything | files).items() if v is not None}, HUB_REVISION)
    hub.add(repository)


def rows(**changes) -> list[dict]:
    """The rows of WNLI's train split; `changes` in row 7."""
    found = wnli_rows("train")
    found[7] = {**found[7], **changes}
    return found


def dropped(column: str) -> list[dict]:
    return [{key: value for key, value in row.items() if key != column} for row in wnli_rows("train")]


WNLI = get("wnli")
FLIPPED_LABEL = 1 - wnli_rows("train")[7]["label"]
DIGEST = r"found texts and labels with the digest \w{64}; expected \w{64}, that of the official release"
WRONG = {
    "a column is missing": (
        dropped("sentence2"),
        r"found column 'sentence2' 0 times among 'sentence1', 'label'",
    ),
    "no labels": (dropped("label"), r"found column 'label' 0 times"),
    "a text is null": (rows(sentence1=None), r"row 7: found no value in column 'sentence1' \(null, in 1 rows\)"),
    "a label is null": (rows(label=None), r"row 7: found no value in column 'label'"),
    "a row has no label": (rows(label=-1), r"row 7: found label -1; expected a class number below 2"),
    "a label is flipped": (rows(label=FLIPPED_LABEL), DIGEST),
    "a text is changed": (rows(sentence1="x"), DIGEST),
    "a row is missing": (wnli_rows("train")[1:], r"found 634 rows; expected 635"),
}
NAMED = {
    "class names are swapped": (["entailment", "not_entailment"], DIGEST),
    "other class names": (["no", "yes"], r"found the classes no, yes; expected not_entailment, entailment"),
}
CONTENTS = {name: (parquet(each, WNLI), told) for name, (each, told) in WRONG.items()}
CONTENTS |= {name: (parquet(wnli_rows("train"), WNLI, names), told) for name, (names, told) in NAMED.items()}
CONTENTS["no Parquet"] = (b"<html>", r"wnli/train-00000-of-00001.parquet: cannot be read as Parquet")


@pytest.mark.parametrize("name", CONTENTS)
def test_data_that_are_not_the_official_ones_are_refused(world, name):
    content, told = CONTENTS[name]
    changed_glue(world.hub, content=content)
    code, said = world.fetch()
    assert code == 2
    assert len(errors(said)) == 1
    assert re.search(told, errors(said)[0]), said


def test_a_split_without_files_is_told(world):
    repository = Repository(HUB_NAME, "dataset")
    repository.commit({"README.md": b"# GLUE"}, HUB_REVISION)
    world.hub.add(repository)
    code, said = world.fetch()
    assert code == 2
    assert "found no file wnli/train-*.parquet; expected one or more" in errors(said)[0]


def test_classes_are_matched_by_name_where_the_hub_counts_them_otherwise(world):
    turned = [{**row, "label": 1 - row["label"]} for row in wnli_rows("train")]
    changed_glue(world.hub, content=parquet(turned, WNLI, ["entailment", "not_entailment"]))
    assert world.fetch() == (0, "")


def test_the_names_of_classes_stand_in_the_card_where_the_file_has_none(world):
    changed_glue(world.hub, content=parquet(wnli_rows("train"), WNLI, described=False))
    assert world.fetch() == (0, "")


def test_without_names_anywhere_numbers_are_not_guessed(world):
    plain = parquet(wnli_rows("train"), WNLI, described=False)
    changed_glue(world.hub, content=plain, **{"README.md": b"# GLUE"})
    code, said = world.fetch()
    assert code == 2
    assert "found values of type int64 without names; expected class numbers, and their names" in errors(said)[0]


def test_a_split_in_several_files_is_read_in_order(world):
    whole = wnli_rows("train")
    parts = {f"wnli/train-0000{n}-of-00002.parquet": parquet(p, WNLI) for n, p in enumerate((whole[:400], whole[400:]))}
    changed_glue(world.hub, **{"wnli/train-00000-of-00001.parquet": None}, **parts)
    assert world.fetch() == (0, "")


def test_published_answers_to_a_test_set_are_not_read(world):
    # The hub has those of MRPC's test set.
    answered = [{**row, "label": number % 2} for number, row in enumerate(wnli_rows("test"))]
    changed_glue(world.hub, "test", parquet(answered, WNLI))
    assert world.fetch() == (0, "")


def test_another_revision_in_the_cache_is_never_taken_for_the_pinned_one(world):
    flipped = [{**row, "label": 1 - row["label"]} for row in wnli_rows("train")]
    other = "a" * 40
    files = wnli_files() | {"wnli/train-00000-of-00001.parquet": parquet(flipped, WNLI)}
    world.hub.repositories["dataset", HUB_NAME].commit(files, other, ref="other")
    assert re.search(DIGEST, errors(world.fetch("--config", f"hub_revision={other}")[1])[0])
    for way in ({"offline": True}, {"endpoint": "http://127.0.0.1:9"}):
        code, said = world.fetch(**way)
        assert code == 2
        assert f"{HUB_NAME}@{HUB_REVISION}" in errors(said)[0]
        assert "the official GLUE files in a folder (glue_dir)" in errors(said)[0]
