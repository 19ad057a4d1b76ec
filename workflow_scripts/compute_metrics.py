"""Score the predictions of one run: predictions.parquet → metrics file (JSON)."""

import argparse

import pandas as pd

from rkd.metrics import metrics_file
from rkd.runtime import json_argument, run_script, sha256, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--spec", required=True, type=json_argument, help="JSON: task, variant, method, seed, …; -: from stdin"
    )
    parser.add_argument("--predictions", required=True, help="predictions.parquet of the run")
    parser.add_argument("--out", required=True, help="metrics file to write")
    args = parser.parse_args()
    columns = ["split", "idx", "label", "prediction"]
    scores = metrics_file(args.spec, pd.read_parquet(args.predictions, columns=columns))
    write_json(args.out, {**scores, "predictions_sha256": sha256(args.predictions)})


if __name__ == "__main__":
    run_script(main)
