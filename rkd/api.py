"""`rkd.distill`. Torch is imported only once the arguments are right."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rkd.distillation.request import Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rkd.distillation.models import Model
    from rkd.distillation.result import Distilled
    from rkd.distillation.tables import Table


def distill(
    data: "Table",
    *,
    student: "Model",
    text: str | Sequence[str],
    label: str | Sequence[str],
    teacher: "Model | None" = None,
    dev: "Table | None" = None,
    test: "Table | None" = None,
    unlabelled: "Table | None" = None,
    soft_labels: "Sequence[str] | Mapping[Any, str] | Table | None" = None,
    method: str = "reptile",
    options: Mapping[str, Any] | None = None,
    labels: Sequence[Any] | None = None,
    multi_label: bool = False,
    label_separator: str = ";",
    scores: Any = None,
    metrics: Sequence[str] | None = None,
    primary_metrics: Sequence[str] | None = None,
    finetune_teacher: bool | Mapping[str, Any] = False,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    student_tokenizer: str = "teacher",
    out: str | os.PathLike[str] | None = None,
    name: str = "data",
    dev_fraction: float = 0.1,
    dev_seed: int = 0,
    seed: int = 1,
    max_length: int = 128,
    vocab_size: int = 2000,
    device: str = "auto",
    threads: int | None = None,
    tensorboard: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> "Distilled":
    """Distil a teacher into a student on a table of your own.

    Args:
        data: the training rows: a DataFrame, or a .csv, .tsv, .jsonl or .parquet file.
        student: the model before training, in the forms of the config's `student_model`, or a Hugging Face model.
        text: the text column, or two.
        label: the column of the label or score. With `multi_label` also a list of columns, one for each label, which
            have its name and hold 0 or 1.
        teacher: a fine-tuned classifier: a Hugging Face model, its folder, or its name on the hub, at one commit as
            "NAME@REVISION"; with `finetune_teacher` a pretrained one. The method "finetune", the baseline, needs none.
        dev: labelled rows to compare models on; without them `dev_fraction` of the training rows, chosen by `dev_seed`.
        test: rows to predict, with or without labels.
        unlabelled: further training rows, of which only the text is read: the teacher says what they are. A batch is
            drawn from all rows alike; an unlabelled one adds to the distillation term alone.
        soft_labels: probabilities (or scores) that take the place of a teacher, for the method "kd": their columns in
            `data` and `unlabelled`, named LABEL or p_LABEL; a mapping of labels to columns; or a table with a row per
            row of `data`. The labels are then those of the columns, and rows of `data` may lack a label or soft labels.
        method: one of `rkd.methods.facts.METHODS`, or a name given to `rkd.methods.register`.
        options: what the method reads (see config.yaml: alpha, temperature, layer_map, …); by default the paper's.
        labels: the labels' names in the order of the teacher's outputs; by default the teacher's own names, or with
            `finetune_teacher` those in `data`, sorted.
        multi_label: whether a text may have several of the labels, or none. The label column then has lists of names,
            or text with `label_separator` between them.
        label_separator: see `multi_label`.
        scores: for regression the range (lowest, highest) of the scores, or "any".
        metrics: metrics, as in the config's `custom_tasks`.
        primary_metrics: those of the metrics whose mean chooses epochs.
        finetune_teacher: fine-tune the teacher first; its settings if not those of the student.
        tokenizer: of a teacher that is given as a model; without a teacher, of such a student.
        student_tokenizer: "teacher", the student reads the tokens that the teacher reads; or "own": each reads the
            texts with its own tokenizer, for methods that compare logits alone (kd, online, lgtm, metadistil).
        out: folder that keeps everything: a new or empty one, in which logs may lie, or that of an earlier call; it
            holds nothing that is read here. A run that was stopped goes on when it is started again with the same
            arguments. What is finished is not trained again, or with other settings with a warning that names them;
            for another task (columns, labels, training data) it is kept, and the call refused. None: a folder that is
            removed with the result.
        name: the task's name in logs and in the model card.
        seed: decides batches, dropout and all new weights.
        max_length: tokens at which an example is cut.
        vocab_size: of the vocabulary built where both models are *.json configs.
        device: auto, cpu or cuda.
        threads: CPU threads; torch's own number by default.
        tensorboard: folder for files that TensorBoard shows while a training runs (extra tensorboard); None: none.
        **settings: of the training (learning_rate, epochs, batch_size, …); by default the paper's. Of a list of
            learning rates each is tried, and the one that is best on held-out rows of `data` is kept.

    Raises:
        ArgumentError: wrong arguments, all of them at once; before torch is imported.
        RkdError: bad data, or models that do not fit; before any training.

    Example:
        >>> result = rkd.distill(frame, teacher="my-teacher", student="nreimers/MiniLM-L3-H384-uncased",
        ...                      text=["question", "answer"], label="good", method="reptile", epochs=3)
        >>> result.metrics["splits"]["validation"]["accuracy"]
        0.91
        >>> result.save("my-student")
    """
    given = dict(locals())
    request = Request(**given)

    from rkd.distillation.job import carry_out

    return carry_out(request)
