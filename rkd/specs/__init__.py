"""Typed hand-overs between the plan and the jobs."""
