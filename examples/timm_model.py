"""A timm network with timm's scheduler, its stem and depthwise convolutions left dense.

python examples/timm_model.py [epochs]
"""

import sys

import timm
import torch
from digits import accuracy, datasets
from timm.scheduler import CosineLRScheduler
from torch.utils.data import DataLoader, TensorDataset

from paper_repro.optim import S2SAM, evaluating
from paper_repro.sparse import MEST


def larger(data):
    images, labels = data.tensors
    return TensorDataset(torch.nn.functional.interpolate(images, scale_factor=4), labels)


def main(epochs=2):
    torch.manual_seed(0)
    train, test = map(larger, datasets())
    loader = DataLoader(train, batch_size=50, shuffle=True)
    model = timm.create_model("mobilenetv2_035", num_classes=10, in_chans=1, drop_rate=0.0)
    optimizer = S2SAM(torch.optim.AdamW(model.parameters(), lr=3e-3), rho=0.02)
    scheduler = CosineLRScheduler(optimizer, t_initial=epochs, warmup_t=0)
    # Under a uniform distribution first and depthwise convolutions and the classifier stay dense.
    method = MEST(model, optimizer, sparsity=0.8, total_steps=epochs * len(loader))
    for epoch in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        scheduler.step(epoch + 1)
        with evaluating(optimizer):
            found = accuracy(model, test)
        print(f"epoch {epoch + 1}: {found:.1f} %, sparsity {method.masks.sparsity():.1%}")
    return found, method


if __name__ == "__main__":
    print(f"{main(*map(int, sys.argv[1:]))[0]:.1f} %")
