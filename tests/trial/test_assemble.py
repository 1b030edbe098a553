"""What a configuration says is what the live objects have."""

from pathlib import Path

import torch

from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import trial_with
from prunedlora.training.distributed import Workers
from prunedlora.trial.assemble import build_method, build_trial
from prunedlora.trial.assets import load_assets
from prunedlora.trial.candidates import ADAPTER
from tests.tiny import sweep_tree

CPU = torch.device("cpu")


def test_limits_of_a_pass_and_one_kernel_for_the_optimizer(tmp_path: Path) -> None:
    base = parse_sweep(sweep_tree(tmp_path, "unused"), "test").trial
    config = trial_with(base, {"training.micro_batch_tokens": 40})
    assets = load_assets(config, CPU)
    method = build_method(config, 12)
    live = build_trial(config, assets, method.attach(assets.base.model, ADAPTER), method, Workers(0, 1, CPU))
    assert (live.order.batch_size, live.order.micro_batch_size, live.order.micro_batch_tokens) == (8, None, 40)
    assert [group["fused"] for group in live.optimizer.param_groups] == [True, True]  # factors, head
