"""nnU-Net's trainer, which ends when its time is used up instead of after 1000 epochs of 250 steps.

`nnUNetv2_train … -tr ClockTrainer` finds it in nnU-Net's own folder of trainers, where `peers.nnunet` puts it. All
else is nnU-Net's: network, loss, optimiser, augmentation, batches. What differs, since there are no epochs: the
learning rate falls with the time that is used up, by the same polynomial; and nothing is validated, neither while it
trains nor at its end, since there is no labelled patient to spare. The last weights are kept.
"""

import json
import os
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from .jcl_clock import Limit


class ClockTrainer(nnUNetTrainer):
    """Trains for `$PEER_MINUTES` minutes of processor time on `$PEER_THREADS` threads."""

    def run_training(self) -> None:
        torch.set_num_threads(int(os.environ["PEER_THREADS"]))  # nnUNetv2_train takes all cores of the machine
        limit = Limit(float(os.environ["PEER_MINUTES"]))
        self.on_train_start()
        self.network.train()
        losses = []
        while limit.another():
            for group in self.optimizer.param_groups:
                group["lr"] = limit.fallen(self.initial_lr)
            losses.append(float(self.train_step(next(self.dataloader_train))["loss"]))
        self.on_train_end()
        done = {"steps": limit.steps, "core_seconds": limit.clock(), "loss": losses[:: max(1, len(losses) // 50)]}
        Path(self.output_folder, "clock.json").write_text(json.dumps(done))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        self.print_to_log_file("No validation: all labelled patients are trained on.")
