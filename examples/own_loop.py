"""The methods inside a loop of your own: your models, your batches, `step` for the rest."""

import torch
from transformers import BertConfig, BertForSequenceClassification

from rkd.layer_map import LayerMap
from rkd.methods import ReptileKD

torch.manual_seed(0)
SIZES = {"vocab_size": 100, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
teacher = BertForSequenceClassification(BertConfig(num_hidden_layers=4, **SIZES))
student = BertForSequenceClassification(BertConfig(num_hidden_layers=2, **SIZES))

steps = 20
method = ReptileKD(
    student,
    teacher,
    layer_map=LayerMap.from_strategy("skip", student_layers=2, teacher_layers=4),
    alpha=0.5,
    temperature=5.0,
    student_lr=1e-3,
    teacher_lr=1e-4,
    total_steps=steps,
)
student.train()
for step in range(steps):
    tokens = torch.randint(5, 100, (16, 12))
    batch = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": (tokens[:, 0] > 50).long(),  # something that can be learnt
    }
    losses = method.step(batch)  # student and teacher change in place
    if step % 5 == 4:
        print(step + 1, {name: round(loss, 3) for name, loss in losses.items()}, f"distance {method.distance():.3f}")
