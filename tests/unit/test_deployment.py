"""What a model costs where it runs: `rkd benchmark`, and exports in int8."""

import json
import shutil

import numpy as np
import pytest

import rkd
from rkd.benchmark import benchmark
from rkd.cli import main
from rkd.errors import RkdError
from rkd.export import export, folder
from rkd.models.loading import count_parameters
from tests.helpers.distillation import TINY, reviews


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    place = tmp_path_factory.mktemp("distilled")
    reviews(40, 1).to_csv(place / "dev.csv", index=False)
    return rkd.distill(reviews(), dev=place / "dev.csv", out=place / "out", **TINY)


def test_benchmark_measures_models_side_by_side(distilled, capsys):
    out, data = distilled.folder.parent, distilled.folder.parent.parent / "dev.csv"
    models = [str(out / "teacher"), str(out / "student")]
    with pytest.raises(SystemExit) as end:
        main(
            ["benchmark", *models, "--data", str(data), "--rounds", "2", "--threads", "1", "--device", "cpu", "--json"]
        )
    assert not end.value.code
    teacher, student = json.loads(capsys.readouterr().out)
    assert [teacher["model"], student["model"]] == models
    assert student["parameters"] == count_parameters(distilled.student)["total"] < teacher["parameters"]
    assert student["megabytes"] == (out / "student/model/model.safetensors").stat().st_size / 1e6
    assert all(one[key] > 0 for one in (teacher, student) for key in ("latency_ms", "throughput"))


def test_benchmark_refuses_bad_input_in_one_line(distilled, tmp_path, capsys):
    data = distilled.folder.parent.parent / "dev.csv"
    (tmp_path / "empty.csv").write_text("text\n")
    with pytest.raises(RkdError, match="found no rows; expected at least one"):
        benchmark([distilled.folder], tmp_path / "empty.csv", device="cpu")
    with pytest.raises(RkdError, match=r"models: .*nowhere"):
        benchmark([distilled.folder, "./nowhere"], data, device="cpu")
    (tmp_path / "none.jsonl").write_text('{"text": null}\n{"text": "good"}\n')
    with pytest.raises(RkdError, match="row 1, column 'text'"):
        benchmark([distilled.folder], tmp_path / "none.jsonl", device="cpu")
    with pytest.raises(SystemExit):
        main(["benchmark", str(distilled.folder), "--data", str(data), "--text", "words"])
    assert "--data: " in (told := capsys.readouterr().err)
    assert "column 'words' is missing" in told


@pytest.fixture(scope="module")
def exported(distilled, tmp_path_factory):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="needs the extra onnx")
    return export(distilled.folder, tmp_path_factory.mktemp("export") / "student", quantize=True)


def test_an_int8_export_is_smaller_and_its_dev_score_is_in_the_card(distilled, exported):
    sizes = [(exported / "onnx" / name).stat().st_size for name in ("model.onnx", "model-int8.onnx")]
    assert sizes[1] < 0.5 * sizes[0]
    card = (exported / "README.md").read_text()
    accuracy = distilled.metrics["splits"]["validation"]["accuracy"]
    assert f"| onnx/model.onnx | {sizes[0] / 1e6:.1f} | {accuracy:.4f} |" in card
    line = next(line for line in card.splitlines() if line.startswith("| onnx/model-int8.onnx"))
    assert abs(float(line.split("|")[3]) - accuracy) <= 0.1
    forms = [one.model for one in benchmark([exported], distilled.folder.parent.parent / "dev.csv", "text", rounds=1)]
    assert forms == [str(exported), f"{exported} (onnx)", f"{exported} (int8)"]
    assert export(distilled.folder, exported, quantize=True) == exported  # the same bytes


def test_an_int8_model_that_falls_apart_is_refused(distilled, exported, tmp_path, monkeypatch):
    def damaged(model, out):
        import onnx

        graph = onnx.load(model)
        for tensor in graph.graph.initializer:
            if tensor.name.startswith("classifier") or "classifier" in tensor.name:
                values = -onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
        onnx.save(graph, out)

    monkeypatch.setattr(folder, "quantize_onnx", damaged)
    with pytest.raises(RkdError, match=r"the int8 model falls apart: found agreement .* expected at least 0.9"):
        export(distilled.folder, tmp_path / "student", quantize=True)
    assert not (tmp_path / "student").exists()


def test_without_its_data_a_run_is_not_quantised(distilled, exported, tmp_path):
    shutil.copytree(distilled.folder, tmp_path / "student")
    with pytest.raises(RkdError, match=r"found no data with the sha256 .*; expected those that it was trained on"):
        export(tmp_path / "student", tmp_path / "out", quantize=True)
