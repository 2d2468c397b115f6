"""Trains until somebody stops it, and cleans up after itself."""

import time

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
steps = 0
try:
    while True:
        optimizer.zero_grad()
        model(torch.randn(4, 8)).pow(2).mean().backward()
        optimizer.step()
        steps += 1
        print(steps, flush=True)
        time.sleep(0.01)
except KeyboardInterrupt:
    print("cleaned up", flush=True)
