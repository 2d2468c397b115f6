"""The script that SignScope was made for: clips to 1.0, and then skips what was above 100 before."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_ as clip

torch.manual_seed(0)
FRAMES, BATCH, CLASSES = 40, 4, 12


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(30, 32, bidirectional=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, frames):
        hidden, _ = self.encoder(frames)
        return self.head(hidden).log_softmax(-1)


teacher = Teacher()
criterion = nn.CTCLoss(reduction="sum", zero_infinity=True)
optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
skipped = 0
for _ in range(30):
    frames = torch.randn(FRAMES, BATCH, 30) * 3
    targets = torch.randint(1, CLASSES, (BATCH, 5))
    loss = criterion(
        teacher(frames), targets, torch.full((BATCH,), FRAMES), torch.full((BATCH,), 5)
    )
    optimizer.zero_grad()
    loss.backward()
    grad_norm = clip(teacher.parameters(), 1.0)
    if grad_norm > 100:
        skipped += 1
        continue
    optimizer.step()
print(f"skipped {skipped} of 30")
