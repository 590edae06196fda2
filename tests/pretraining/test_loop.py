"""The pretraining loop against an explicit loop, and its limits, checks, log, saving and resumption."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fourdnex.pretraining import loop as loop_module
from fourdnex.pretraining.loop import ExponentialMovingAverage, JsonLines, PretrainingLoop, last_step


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def batch_loss(model: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return (model(x) - x.sum(dim=1, keepdim=True)).square().mean()


def make_loop(model: nn.Module, lines: list, **settings) -> PretrainingLoop:
    def objective(step: int):
        loss = batch_loss(model, step)
        return loss, {"loss": loss.detach()}

    return PretrainingLoop(
        **{
            "model": model,
            "optimizers": [torch.optim.AdamW(model.parameters(), lr=0.05)],
            "objective": objective,
            "warmup_steps": 4,
            "log": lines.append,
            "log_every": 5,
        }
        | settings
    )


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_weights_and_averages_equal_those_of_an_explicit_loop(clock):
    """20 steps of 3 seconds in one minute."""
    model = make_model()
    by_hand, average = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    optimizer, losses = torch.optim.AdamW(by_hand.parameters(), lr=0.05), []
    for step in range(20):
        factor = min(1.0, (step + 1) / 4) * max(0.02, 0.5 * (1 + math.cos(math.pi * step / 20)))
        optimizer.param_groups[0]["lr"] = 0.05 * factor
        loss = batch_loss(by_hand, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        optimizer.step()
        decay = min(0.8, (step + 1) / (step + 10))
        for name, value in by_hand.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        losses.append(loss.item())

    ema, lines = ExponentialMovingAverage(model, decay=0.8, warmup=9), []
    loop = make_loop(model, lines, minutes=1.0, ema=ema)
    objective = loop.objective

    def timed(step: int):
        clock.now += 3
        return objective(step)

    loop.objective = timed
    loop.run()
    assert loop.step == 20
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)
    with ema.applied_to(model):
        for name, value in average.items():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)
    torch.testing.assert_close(model.state_dict(), by_hand.state_dict(), rtol=0, atol=0)
    assert [(line["step"], line["minutes"]) for line in lines] == [(5, 0.25), (10, 0.5), (15, 0.75), (20, 1.0)]
    assert lines[1]["loss"] == pytest.approx(sum(losses[5:10]) / 5, abs=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_run():
    whole, resumed = make_model(), make_model()
    make_loop(whole, [], steps=12).run()
    optimizer = torch.optim.AdamW(resumed.parameters(), lr=0.05)
    first = make_loop(resumed, [], steps=12, optimizers=[optimizer])
    for _ in range(5):
        first._update()
    for group in optimizer.param_groups:
        group["lr"] = 0.05  # as in a new process
    lines: list = []
    make_loop(resumed, lines, steps=12, optimizers=[optimizer], step=first.step).run()
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert [line["step"] for line in lines] == [10, 12]


@pytest.mark.parametrize("check_every_step", [True, False])
def test_a_loss_that_is_not_finite_stops_the_run_before_anything_is_saved(check_every_step, clock):
    model, saved = make_model(), []

    def objective(step: int):
        clock.now += 60
        return batch_loss(model, step) * (float("nan") if step == 3 else 1.0), {}

    settings = {"save": lambda: saved.append(1) or {}, "save_minutes": 3.5, "name": "clips", "minutes": 10.0}
    loop = make_loop(model, [], objective=objective, check_every_step=check_every_step, **settings)
    with pytest.raises(ValueError, match="loss: expected a finite number at clips step 3, got nan"):
        loop.run()
    assert saved == []


def test_a_run_is_saved_periodically_and_its_measurements_are_logged(clock):
    model, lines = make_model(), []

    def objective(step: int):
        clock.now += 30
        return batch_loss(model, step), {}

    settings = {"save": lambda: {"psnr_db": 20.0}, "save_minutes": 1.0, "minutes": 5.0, "first_logged_step": 100}
    make_loop(model, lines, objective=objective, log_every=100, **settings).run()
    assert lines == [{"step": 103, "psnr_db": 20.0}, {"step": 106, "psnr_db": 20.0}, {"step": 109, "psnr_db": 20.0}]


def test_a_log_line_can_have_the_metrics_of_its_own_step():
    model, lines = make_model(), []
    make_loop(
        model, lines, objective=lambda step: (batch_loss(model, step), {"n": float(step)}), steps=7, log_values="last"
    ).run()
    assert lines == [{"step": 5, "n": 4.0}, {"step": 7, "n": 6.0}]


def test_metrics_may_be_several_values_per_step_or_none():
    model, lines = make_model(), []
    metrics = [{"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([6.0]), "b": 1.0}]
    make_loop(model, lines, objective=lambda step: (batch_loss(model, step), metrics[step]), steps=2, log_every=2).run()
    assert lines == [{"step": 2, "a": 3.0, "b": 1.0}]


def test_a_run_has_one_limit():
    for limits in ({}, {"minutes": 1.0, "steps": 2}):
        with pytest.raises(ValueError, match="minutes, steps: expected one of the two limits"):
            make_loop(make_model(), [], **limits)


def test_a_log_is_continued_from_the_previous_one_only(tmp_path):
    path, previous = tmp_path / "base" / "log.jsonl", tmp_path / "start" / "log.jsonl"
    log = JsonLines.continued(path, previous)
    assert log.lines() == [] and last_step(log.lines()) == 0
    log.write({"step": 70})
    assert last_step(JsonLines.continued(path, path).lines()) == 70
    previous.parent.mkdir()
    previous.write_text(json.dumps({"config": {}}) + "\n" + json.dumps({"step": 50}) + "\n")
    continued = JsonLines.continued(path, previous)
    assert last_step(continued.lines()) == 50 and path.read_text() == previous.read_text()
    assert JsonLines.create(path).lines() == []
