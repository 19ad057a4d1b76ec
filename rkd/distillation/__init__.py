"""Behind `rkd.distill`: one distillation on a table of the user's own, without the workflow."""
