"""Small trained networks as their measures see them."""

import torch
import torch.nn.functional as F
from toys import convnet, images

from paper_repro.data import Dataset, Split
from paper_repro.measure.trained import Parts, Trained
from paper_repro.sparse.distribution import prunable


def subject(model=None, masks=None, parts=None, cache=None, seed=0):
    """A network on 64 made-up 1x6x6 images of 3 classes, half of its weights pruned."""
    model = (model or convnet(seed)).eval()
    generator = torch.Generator().manual_seed(seed)
    if masks is None:
        masks = {
            n: torch.rand(w.shape, generator=generator) < 0.5 for n, w in prunable(model).items()
        }
    with torch.no_grad():
        for name, w in prunable(model).items():
            if name in masks:
                w.mul_(masks[name])
    found = images(8, seed)
    inputs, targets = (torch.cat(x) for x in zip(*found, strict=True))

    def sample(n, seed):
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))[:n]
        return inputs[order], targets[order]

    pixels = ((inputs.clamp(-2, 2) + 2) * 63).to(torch.uint8).permute(0, 2, 3, 1)
    split = Split(pixels.contiguous(), targets)
    return Trained(
        model=model,
        masks=masks,
        data=Dataset("made", split, split, 3, (0.5,), (0.25,), 1, False),
        sample=sample,
        loss_fn=F.cross_entropy,
        normalise=lambda x: (x.float() / 63 - 2).permute(0, 3, 1, 2),
        cache=cache,
        parts=parts or Parts(),
    )
