"""Commands about the installation: GPU memory planning, checks, shell completion."""

from typing import Annotated, Any, Literal

from fourdnex.commands.declaration import Result, command


@command("--model wan2.1-i2v-14b-480p --gpus 8x80GB", "fourdnex.planning.plan:PlanSettings")
def plan(**settings: Any) -> Result:
    """Estimate the GPU memory of training and generation, and the options that make a base fit; needs no GPU."""
    from fourdnex.planning import PlanSettings, make_plan, plan_report

    plan = make_plan(PlanSettings(**settings))
    print(plan_report(plan))
    tasks: dict[str, Any] = {}
    for task, options in (("training", plan.training), ("generation", plan.generation)):
        fitting = plan.first_fit(options)
        tasks[task] = {
            "fits": fitting is not None,
            "options": list(fitting.switches) if fitting is not None else None,
            "alternatives": [
                {"options": list(option.switches), "gpu_bytes": option.peak, "host_bytes": option.host}
                for option in options
            ],
        }
    sizes = {"num_frames": plan.clip.num_frames, "height": plan.clip.height, "width": plan.clip.width}
    gpus = {"num_gpus": plan.num_gpus, "available_bytes": plan.available}
    return Result(data={"model": plan.preset.name, **sizes, "num_tokens": plan.num_tokens, **gpus, **tasks})


@command("")
def doctor() -> Result:
    """Check this installation: versions, devices, base model, data and disk space."""
    from fourdnex.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.check:12s} {finding.detail}")
    ok = all(finding.ok for finding in findings)
    return Result(data={"ok": ok, "checks": findings}, status=0 if ok else 1)


@command("bash > ~/.local/share/bash-completion/completions/fourdnex", has_json=False, takes_parser=True)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], "shell to complete in"],
    **context: Any,
) -> None:
    """Print a script that completes commands, options and choices in a shell."""
    from fourdnex.commands.completion import completion_script

    print(completion_script(context["parser"], shell))
