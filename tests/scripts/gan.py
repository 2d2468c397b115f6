"""Two networks against each other, each with an optimizer of its own."""

import torch
from torch import nn

torch.manual_seed(0)
maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
judge = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(), nn.Linear(32, 1))
for_maker = torch.optim.Adam(maker.parameters(), lr=1e-3)
for_judge = torch.optim.Adam(judge.parameters(), lr=1e-3)
loss_of = nn.BCEWithLogitsLoss()
yes, no = torch.ones(16, 1), torch.zeros(16, 1)
for _ in range(40):
    real, fake = torch.randn(16, 2) + 2, maker(torch.randn(16, 4))
    judge.zero_grad()
    loss_of(judge(real), yes).backward()
    loss_of(judge(fake.detach()), no).backward()
    for_judge.step()
    maker.zero_grad()
    loss_of(judge(fake), yes).backward()
    for_maker.step()
