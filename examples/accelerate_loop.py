"""S2-SAM and RigL with accelerate: attach before or after prepare, save_state and load_state.

python examples/accelerate_loop.py [epochs]      or: accelerate launch examples/accelerate_loop.py
"""

import sys

import torch
from accelerate import Accelerator
from digits import accuracy, datasets, network
from torch.utils.data import DataLoader

from paper_repro.optim import S2SAM, evaluating
from paper_repro.sparse import RigL, export_weights


def main(epochs=5, folder="runs/accelerate", resume=False):
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    train, test = datasets()
    loader = DataLoader(train, batch_size=50)
    model = network()
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rho=0.05)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    method = RigL(model, optimizer, sparsity=0.9, total_steps=epochs * len(loader), delta_t=20)
    if resume:
        accelerator.load_state(folder)
    while method.steps < epochs * len(loader):
        for images, labels in loader:
            optimizer.zero_grad()
            accelerator.backward(torch.nn.functional.cross_entropy(model(images), labels))
            optimizer.step()
        with evaluating(optimizer):
            accelerator.print(f"step {method.steps}: {accuracy(model, test):.1f} %")
        accelerator.save_state(folder)
    weights = export_weights(model, optimizer)  # at w, under the bare model's names
    final = network()
    final.load_state_dict(weights)
    return accuracy(final, test), method


if __name__ == "__main__":
    print(f"{main(*map(int, sys.argv[1:]))[0]:.1f} %")
