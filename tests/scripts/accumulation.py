"""Four micro-batches an update."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = DataLoader(
    TensorDataset(torch.randn(240, 16), torch.randn(240, 1)), batch_size=4, shuffle=True
)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for epoch in range(2):
    for number, (inputs, targets) in enumerate(data):
        loss = nn.functional.mse_loss(model(inputs), targets) / 4
        loss.backward()
        if number % 4 == 3:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        print(epoch, nn.functional.mse_loss(model(inputs), targets).item())
