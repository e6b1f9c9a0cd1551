"""S2-SAM and RigL under Lightning's Trainer: the method is made with the optimizer.

python examples/lightning_module.py [epochs]
"""

import sys

import lightning.pytorch as pl
import torch
from digits import accuracy, datasets, network
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from paper_repro.clients.lightning import AtWeights
from paper_repro.optim import S2SAM
from paper_repro.sparse import RigL


class Digits(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = network()

    def configure_optimizers(self):
        base = torch.optim.SGD(self.network.parameters(), lr=0.05, momentum=0.9)
        optimizer = S2SAM(base, rho=0.05)
        steps = int(self.trainer.estimated_stepping_batches)
        RigL(self.network, optimizer, sparsity=0.9, total_steps=steps, delta_t=20)
        return optimizer

    def training_step(self, batch, _):
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.network(images), labels)

    def validation_step(self, batch, _):
        images, labels = batch
        right = (self.network(images).argmax(1) == labels).float().mean()
        self.log("accuracy", 100 * right, prog_bar=True)


def main(epochs=5, folder="runs/lightning", resume=None, stop=None):
    pl.seed_everything(0)
    train, test = datasets()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        # Validation and checkpoints at w; what resumes goes on at u.
        callbacks=[AtWeights(), ModelCheckpoint(dirpath=folder, save_last=True), *(stop or [])],
    )
    module = Digits()
    trainer.fit(
        module,
        DataLoader(train, batch_size=50),
        DataLoader(test, batch_size=297),
        ckpt_path=resume,
    )
    return accuracy(module.network, test), module, trainer


if __name__ == "__main__":
    print(f"{main(*map(int, sys.argv[1:]))[0]:.1f} %")
