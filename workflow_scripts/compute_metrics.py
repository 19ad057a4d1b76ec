"""Score the predictions of one run: predictions.parquet → metrics file (JSON)."""

import argparse
import json

import pandas as pd

from rkd.metrics import metrics_file
from rkd.runtime import run_script, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="JSON: task, variant, method, seed, synthetic")
    parser.add_argument("--predictions", required=True, help="predictions.parquet of the run")
    parser.add_argument("--out", required=True, help="metrics file to write")
    args = parser.parse_args()
    columns = ["split", "idx", "label", "prediction"]
    write_json(args.out, metrics_file(args.spec, pd.read_parquet(args.predictions, columns=columns)))


if __name__ == "__main__":
    run_script(main)
