"""Formats a plan as text."""

from __future__ import annotations

from collections.abc import Iterator

from fourdnex.planning.plan import GIB, Option, Plan


def plan_report(plan: Plan) -> str:
    """Memory per GPU of each option, the first option that fits, and its items."""
    return "\n".join(_lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    """Lines of the report."""
    clip, settings = plan.clip, plan.settings
    precision = {"bf16": "bfloat16", "no": "float32"}[settings.precision]
    yield f"{plan.preset.name}: {clip.num_frames} frames of {clip.height}x{clip.width}, fusion {clip.fusion}"
    batch_size = f"batch size {clip.batch_size}"
    yield f"{plan.num_tokens:,} tokens per sequence, LoRA rank {settings.rank}, {precision}, {batch_size}"
    yield f"GPUs: {plan.num_gpus}, {plan.available / GIB:.1f} GiB usable per GPU ({settings.reserve:.0%} reserved)"
    base_size = (plan.preset.num_frames, plan.preset.height, plan.preset.width)
    if (clip.num_frames, clip.height, clip.width) != base_size:
        note = "This size is hypothetical: training and generation use the base's size"
        yield f"{note}, {base_size[0]} frames of {base_size[1]}x{base_size[2]}"
    training = ["torchrun", "--nproc-per-node", str(plan.num_gpus), "-m"] if plan.num_gpus > 1 else []
    training += ["fourdnex", "train", "--output ADAPTER", f"--batch-size {clip.batch_size * plan.num_gpus}"]
    training += [f"--rank {settings.rank}", f"--fusion {clip.fusion}", f"--mixed-precision {settings.precision}"]
    generation = ["fourdnex", "generate", "IMAGES", "SCENES", "--adapter ADAPTER", f"--batch-size {clip.batch_size}"]
    for title, options, command, host in (
        ("Training", plan.training, training, "in host memory while loading"),
        ("Generation", plan.generation, generation, "offloaded to host memory"),
    ):
        yield ""
        yield from _section(plan, title, options, f"{' '.join(command)} --model {settings.model}", host)


def _section(plan: Plan, title: str, options: tuple[Option, ...], command: str, in_host: str) -> Iterator[str]:
    """Lines for training or generation."""
    chosen = plan.first_fit(options)
    yield f"{title}, GiB per GPU"
    labels = [" ".join(option.switches) or "(no options)" for option in options]
    width = max(map(len, labels))
    for option, label in zip(options, labels, strict=True):
        verdict = "fits" if option.peak <= plan.available else "too large"
        host = f", {option.host / GIB:.1f} {in_host}" if option.host else ""
        yield f"{'>' if option is chosen else ' '} {label:{width}}  {option.peak / GIB:8.2f}  {verdict}{host}"
    if chosen is None:
        least = min(options, key=lambda option: option.peak)
        yield f"No option fits; the smallest needs {least.peak / GIB:.1f}."
        chosen = least
    yield ""
    for part in chosen.resident:
        yield f"    {part.name:46}{part.size / GIB:8.2f}"
    for phase in chosen.phases:
        yield f"    {phase.name:46}{phase.size / GIB:8.2f}{' (one at a time)' if len(chosen.phases) > 1 else ''}"
    yield f"    {'peak':46}{chosen.peak / GIB:8.2f}"
    yield f"    {' '.join([command, *chosen.switches])}"
