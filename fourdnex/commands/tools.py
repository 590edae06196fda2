"""Commands that look at the machine: what fits into its GPUs, and what is missing."""

from typing import Any

from fourdnex.commands.declaration import command


@command("--model wan2.1-i2v-14b-480p --gpus 8x80GB", "fourdnex.planning.plan:PlanSettings")
def plan(**settings: Any) -> None:
    """Say whether a base fits into GPUs, in training and generation, and with what options; needs neither of both."""
    from fourdnex.planning import PlanSettings, make_plan, plan_report

    print(plan_report(make_plan(PlanSettings(**settings))))


@command("")
def doctor() -> int:
    """Check this installation: versions, devices, the base model, the data, the disk."""
    from fourdnex.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.what:12s} {finding.found}")
    return 0 if all(finding.ok for finding in findings) else 1
