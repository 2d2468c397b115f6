"""A Lightning module and its Trainer: the loop, the closure and the clipping are Lightning's."""

import sys

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return nn.functional.mse_loss(self.net(inputs), targets)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


lightning.seed_everything(0)
data = DataLoader(TensorDataset(torch.randn(80, 16), torch.randn(80, 1)), batch_size=4)
trainer = lightning.Trainer(
    accelerator="cpu",
    devices=1,
    max_epochs=2,
    gradient_clip_val=0.1,
    accumulate_grad_batches=2,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    default_root_dir=sys.argv[1],
)
trainer.fit(Module(), data)
