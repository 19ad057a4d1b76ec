"""Score the predictions of one run: predictions.parquet and logits.parquet → metrics file (JSON)."""

from rkd.metrics.file import metrics_file
from rkd.runs.predictions import read_predictions
from rkd.specs.arguments import add_spec
from rkd.specs.metrics import MetricsSpec
from rkd.utils.command_line import ArgumentParser
from rkd.utils.files import sha256, write_json
from rkd.utils.script import run_script


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    add_spec(parser, MetricsSpec)
    parser.add_argument(
        "--predictions", required=True, help="predictions.parquet of the run, with logits.parquet beside it"
    )
    parser.add_argument("--out", required=True, help="metrics file to write")
    args = parser.parse_args()
    scores = metrics_file(args.spec, read_predictions(args.predictions))
    write_json(args.out, {**scores, "predictions_sha256": sha256(args.predictions)})


if __name__ == "__main__":
    run_script(main)
