"""Lightning Fabric: a plain loop with its own backward and clipping."""

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
fabric = Fabric(accelerator="cpu", devices=1)
data = fabric.setup_dataloaders(
    DataLoader(TensorDataset(torch.randn(80, 16), torch.randn(80, 1)), batch_size=4)
)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=1e-3))
for inputs, targets in data:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    fabric.backward(loss)
    fabric.clip_gradients(model, optimizer, max_norm=0.1)
    optimizer.step()
