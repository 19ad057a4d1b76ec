"""Distil a teacher on a table of your own.

    python examples/distill_dataframe.py [TEACHER STUDENT]

TEACHER and STUDENT are model references (a folder, a hub name, package:NAME/FOLDER, a *.json config); without them
small models are trained from scratch, offline, in seconds.
"""

import sys
from pathlib import Path

import pandas as pd

import rkd

MODELS = Path(__file__).resolve().parent.parent / "configs" / "models"
teacher, student = sys.argv[1:] or (f"{MODELS}/bert-4x128.json", f"{MODELS}/bert-2x128.json")
words = {"praise": ("great", "charming", "clever"), "blame": ("dull", "boring", "clumsy")}
rows = [(f"a {word} film, part {n}", label) for label in words for word in words[label] for n in range(20)]
frame = pd.DataFrame(rows, columns=["review", "mood"])

result = rkd.distill(
    frame,
    teacher=teacher,
    student=student,
    text="review",
    label="mood",
    method="reptile",
    finetune_teacher={"learning_rate": 5e-4} if teacher.endswith(".json") else True,
    epochs=2,
    learning_rate=1e-3 if student.endswith(".json") else 5e-5,
    batch_size=16,
    vocab_size=200,
)
print("accuracy of the student:", result.metrics["splits"]["validation"]["accuracy"])
print(result.predictions.head())
result.save("distilled-student")  # a folder for transformers.pipeline, with a model card
