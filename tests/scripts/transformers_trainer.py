"""A tiny model of Transformers and its Trainer: accumulation, clipping and schedule are the Trainer's."""

import sys

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments


class Sentences(torch.utils.data.Dataset):
    def __len__(self):
        return 48

    def __getitem__(self, place):
        generator = torch.Generator().manual_seed(place)
        ids = torch.randint(0, 50, (12,), generator=generator)
        return {"input_ids": ids, "labels": int(ids.sum() % 2)}


torch.manual_seed(0)
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
)
arguments = TrainingArguments(
    output_dir=sys.argv[1],
    use_cpu=True,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    num_train_epochs=2,
    max_grad_norm=0.05,
    report_to=[],
    save_strategy="no",
    disable_tqdm=True,
)
Trainer(model=model, args=arguments, train_dataset=Sentences()).train()
