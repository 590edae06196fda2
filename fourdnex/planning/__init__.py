"""Memory planning: whether a base model fits into given GPUs, computed without a GPU and without weights."""

from fourdnex.planning.plan import Plan, PlanSettings, make_plan
from fourdnex.planning.report import plan_report

__all__ = ["Plan", "PlanSettings", "make_plan", "plan_report"]
