"""A sparse method of your own: choose masks; state, replicas and resuming come for free.

python examples/own_method.py [epochs]
"""

import sys

import torch
from digits import accuracy, datasets, network
from torch.utils.data import DataLoader

from paper_repro.optim import S2SAM, evaluating
from paper_repro.sparse import DynamicMethod, Masks
from paper_repro.sparse.select import keep_largest


class Gradual(DynamicMethod):
    """Dense at first; every ``period`` steps each layer loses its smallest weights."""

    def __init__(self, model, optimizer, *, sparsity, total_steps, period=20, seed=0):
        super().__init__(model, optimizer, seed)
        self.period, self.end, self.sparsity = period, total_steps // 2, sparsity
        self.target = self.sparse_layers(sparsity, "uniform")
        ones = {n: torch.ones(w.shape) > 0 for n, w in model.named_parameters() if n in self.target}
        self.masks = Masks(model, optimizer, ones)  # last: from here on the method is attached

    def due(self, t):
        return (t + 1) % self.period == 0 and t < self.end + self.period

    def choose(self, t):
        share = min(1.0, (t + 1) / self.end)
        new = {}
        for name, target in self.target.items():
            weight = self.weight(name)  # w, although the parameters stand at u
            keep = round(weight.numel() + (target - weight.numel()) * share)
            new[name] = keep_largest(weight.abs(), keep, self.masks[name])
        return new


def main(epochs=5):
    torch.manual_seed(0)
    train, test = datasets()
    loader = DataLoader(train, batch_size=50, shuffle=True)
    model = network()
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rho=0.05)
    method = Gradual(model, optimizer, sparsity=0.9, total_steps=epochs * len(loader))
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    with evaluating(optimizer):
        found = accuracy(model, test)
    return found, method


if __name__ == "__main__":
    found, method = main(*map(int, sys.argv[1:]))
    print(f"{found:.1f} %, sparsity {method.masks.sparsity():.1%}")
