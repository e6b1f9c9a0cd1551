"""S2-SAM and RigL under transformers' Trainer: hand it the optimizer and one callback.

python examples/hf_trainer.py [epochs]
"""

import sys

import torch
from digits import datasets, network
from transformers import Trainer, TrainingArguments, set_seed

from paper_repro.clients.transformers import AtWeights
from paper_repro.optim import S2SAM
from paper_repro.sparse import RigL, choose_layers


class Digits(torch.nn.Module):
    """As the Trainer wants a model: named inputs, and the loss among the outputs.

    One of transformers' own does as well. With ViT under transformers 5.24 do not resume: its
    checkpoints have other names than the Trainer loads, which leaves layers at their start.
    """

    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, pixel_values, labels=None):
        logits = self.network(pixel_values)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def samples(data):
    return [{"pixel_values": image, "labels": label} for image, label in data]


def main(epochs=3, folder="runs/hf_trainer", resume=None, stop_after=None):
    set_seed(0)
    train, test = datasets()
    model = Digits()
    choose_layers(model, exclude=["network.9"])  # the classifier stays dense
    optimizer = S2SAM(torch.optim.AdamW(model.parameters(), lr=2e-3), rho=0.05)
    steps = epochs * 30
    method = RigL(model, optimizer, sparsity=0.8, total_steps=steps, delta_t=20)
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=folder, num_train_epochs=epochs, per_device_train_batch_size=50,
            per_device_eval_batch_size=297, eval_strategy="epoch", save_strategy="epoch",
            report_to=[], use_cpu=True, disable_tqdm=True, seed=0, max_grad_norm=1.0,
        ),
        train_dataset=samples(train),
        eval_dataset=samples(test),
        optimizers=(optimizer, None),
        callbacks=[AtWeights(), *(stop_after or [])],
        compute_metrics=lambda p: {"accuracy": 100 * (p[0].argmax(1) == p[1]).mean().item()},
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return trainer.evaluate()["eval_accuracy"], model, method


if __name__ == "__main__":
    print(f"{main(*map(int, sys.argv[1:]))[0]:.1f} %")
