"""S2-SAM and RigL with accelerate: attach before or after prepare, save_state and load_state.

python examples/accelerate_loop.py [epochs]      or: accelerate launch examples/accelerate_loop.py

Stopped anywhere, it goes on from its last checkpoint, in the middle of an epoch too, and ends as if
it had not been stopped, bit for bit.
"""

import shutil
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from digits import accuracy, datasets, network
from torch.utils.data import DataLoader

from paper_repro.optim import S2SAM, evaluating
from paper_repro.sparse import RigL, export_weights


def saved(folder):
    """The whole checkpoints, by the steps taken."""
    return sorted(Path(folder).glob("[0-9]*"), key=lambda path: int(path.name))


def save(accelerator, folder, steps):
    """Write a checkpoint under another name until it is whole, and let go of the one before."""
    older, whole = saved(folder), Path(folder, str(steps))
    if whole in older:
        return
    accelerator.save_state(Path(folder, "unfinished"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        Path(folder, "unfinished").rename(whole)
        for path in older:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()


def main(epochs=5, folder="runs/accelerate", stop_at=None):
    torch.manual_seed(0)
    # An order of the data that each epoch's number decides, so that it can be taken up anywhere.
    order = DataLoaderConfiguration(use_seedable_sampler=True)
    accelerator = Accelerator(cpu=True, dataloader_config=order)
    train, test = datasets()
    loader = DataLoader(train, batch_size=50, shuffle=True)
    model = network()
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rho=0.05)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    length = len(loader)
    method = RigL(model, optimizer, sparsity=0.9, total_steps=epochs * length, delta_t=20)
    if there := saved(folder):
        accelerator.load_state(there[-1])  # weights, optimizer, masks and the steps taken
    for epoch in range(method.steps // length, epochs):
        loader.set_epoch(epoch)
        for images, labels in accelerator.skip_first_batches(loader, method.steps % length):
            optimizer.zero_grad()
            accelerator.backward(torch.nn.functional.cross_entropy(model(images), labels))
            optimizer.step()
            if method.steps % 20 == 0:
                save(accelerator, folder, method.steps)
            if method.steps == stop_at:  # as a process that is killed
                return None, method
        with evaluating(optimizer):
            accelerator.print(f"epoch {epoch + 1}: {accuracy(model, test):.1f} %")
    save(accelerator, folder, method.steps)
    weights = export_weights(model, optimizer)  # at w, under the bare model's names
    final = network()
    final.load_state_dict(weights)
    accelerator.print(f"shipped: {accuracy(final, test):.1f} %")
    return weights, method


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
