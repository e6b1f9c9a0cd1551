"""S2-SAM and RigL in a loop of your own, stopped and resumed, and the weights to ship.

python examples/plain_loop.py [epochs]
"""

import sys
from pathlib import Path

import torch
from digits import accuracy, datasets, network
from torch.utils.data import DataLoader

from paper_repro.optim import S2SAM, evaluating
from paper_repro.sparse import RigL, choose_layers, save_weights


def main(epochs: int = 5, folder: Path = Path("runs/plain_loop")) -> float:
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    train, test = datasets()
    loader = DataLoader(train, batch_size=50, shuffle=True)
    model = network()
    choose_layers(model, exclude=["9"])  # the classifier stays dense
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rho=0.05)
    method = RigL(
        model, optimizer, sparsity=0.9, distribution="erk", delta_t=20,
        total_steps=epochs * len(loader),
    )  # fmt: skip
    first, checkpoint = 0, folder / "checkpoint.pt"
    if checkpoint.exists():  # masks, step counter and random state come with the optimizer's
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"]
    for epoch in range(first, epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        with evaluating(optimizer):  # at w; training goes on at u
            print(f"epoch {epoch + 1}: {accuracy(model, test):.1f} %")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "epoch": epoch + 1}, checkpoint)
    print(f"sparsity {method.masks.sparsity():.1%}, {method.updates} topology updates")
    save_weights(folder / "weights.pt", model, optimizer)  # or weights.safetensors
    method.finalize()
    return accuracy(model, test)


if __name__ == "__main__":
    print(f"{main(*map(int, sys.argv[1:])):.1f} %")
