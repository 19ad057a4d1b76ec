"""A literal LGTM: the pilot's AdamW is written out, and each teacher gradient takes a separate pass."""

import copy

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.reference.methods import STUDENT_LR, TEACHER_LR, Learner, follow_loss, forward, kd_objective, task_loss


class LiteralLGTM:
    """Pilot, influence, teacher and student update on models without dropout.

    Args:
        questions: iterator over held-out batches.
        influence_weight: w, or None for the teacher's current learning rate.
    """

    def __init__(self, student, teacher, questions, follow_weight, influence_weight):
        self.student, self.teacher, self.questions = student, teacher, questions
        self.follow_weight, self.influence_weight = follow_weight, influence_weight
        self.student_learner = Learner(student, STUDENT_LR)
        self.teacher_learner = Learner(teacher, TEACHER_LR)

    def teacher_objective(self, student, batch):
        z_t, z_s = forward(self.teacher, batch).logits, forward(student, batch).logits
        return (1 - self.follow_weight) * task_loss(z_t, batch["labels"]) + self.follow_weight * follow_loss(z_t, z_s)

    def teacher_gradient(self, student, batch):
        return torch.autograd.grad(self.teacher_objective(student, batch), list(self.teacher.parameters()))

    def student_objective(self, batch):
        z_t = forward(self.teacher, batch).logits.detach()
        return kd_objective(forward(self.student, batch).logits, z_t, batch["labels"])

    def pilot(self, batch):
        """Return θ'_S, a copy of the student after an AdamW step from the moments of the student's optimizer."""
        pilot, adamw = copy.deepcopy(self.student), self.student_learner.adamw
        gradients = torch.autograd.grad(self.student_objective(batch), list(self.student.parameters()))
        norm = sum(g.square().sum() for g in gradients).sqrt()
        lr, decay = self.student_learner.current_lr(), {}
        for group in adamw.param_groups:
            decay |= dict.fromkeys(group["params"], group["weight_decay"])
        for ahead, parameter, gradient in zip(pilot.parameters(), self.student.parameters(), gradients, strict=True):
            g = gradient * min(1.0, 1.0 / (float(norm) + 1e-6))
            state = adamw.state[parameter]
            t = float(state["step"]) + 1 if state else 1
            m = 0.1 * g + (0.9 * state["exp_avg"] if state else 0)
            s = 0.001 * g**2 + (0.999 * state["exp_avg_sq"] if state else 0)
            step = m / (1 - 0.9**t) / ((s / (1 - 0.999**t)).sqrt() + 1e-8)
            ahead.data = parameter.detach() * (1 - lr * decay[parameter]) - lr * step
        return pilot

    def held_out_gradient(self, batch, questions):
        """Return the pilot's loss on the quiz batch, and v."""
        pilot = self.pilot(batch)
        loss = task_loss(forward(pilot, questions).logits, questions["labels"])
        return loss, torch.autograd.grad(loss, list(pilot.parameters()))

    def influence(self, v, batch, reach=0.01):
        """Compute the finite difference with two students and two passes of the teacher."""
        epsilon = reach / float(sum(g.square().sum() for g in v).sqrt())
        found = []
        for sign in (1, -1):
            moved = copy.deepcopy(self.student)
            with torch.no_grad():
                for parameter, direction in zip(moved.parameters(), v, strict=True):
                    parameter.add_(direction, alpha=sign * epsilon)
            found.append(self.teacher_gradient(moved, batch))
        return [(a - b) / (2 * epsilon) for a, b in zip(*found, strict=True)]

    def exact_influence(self, v, batch):
        """Compute the exact mixed derivative that the finite difference approximates, by a second-order graph."""
        with sdpa_kernel(SDPBackend.MATH):
            loss = self.teacher_objective(self.student, batch)
        ours = torch.autograd.grad(loss, list(self.student.parameters()), create_graph=True)
        along = sum((g * direction).sum() for g, direction in zip(ours, v, strict=True))
        return torch.autograd.grad(along, list(self.teacher.parameters()))

    def step(self, batch):
        quiz_loss, v = self.held_out_gradient(batch, next(self.questions))
        w = self.teacher_learner.current_lr() if self.influence_weight is None else self.influence_weight
        teacher_loss = self.teacher_objective(self.student, batch)
        gradient, influence = self.teacher_gradient(self.student, batch), self.influence(v, batch)
        sizes = [float(sum(g.square().sum() for g in each).sqrt()) for each in (influence, gradient)]
        self.teacher_learner.apply([a - w * g for a, g in zip(gradient, influence, strict=True)])
        loss = self.student_objective(batch)
        self.student_learner.step(loss)
        found = {"teacher": teacher_loss, "quiz": quiz_loss, "loss": loss}
        return {name: float(value.detach()) for name, value in found.items()} | {"influence": w * sizes[0] / sizes[1]}
