"""Numbers that the paper's authors published as text, from the OpenReview discussion (MJgMMqMDu4).

The cells of Tables 1 to 6 and A.1 are public only as pictures and are therefore not here.
Accuracies in %, or SacreBLEU, as (base, with S2-SAM).
"""

__all__ = [
    "MEAN_GAIN_AT_98",
    "MEAN_GAIN_CORRUPTED",
    "R1_IMAGENET_95",
    "R2_OTHERS",
    "R2_RESNET32",
    "R3_LRR",
    "R4_LT",
    "R5_TRANSLATION",
    "R6_MEST_EM",
    "R7_SET_5X",
    "RIGL_RESNET50",
]

#: MEST(EM), ResNet-32, CIFAR-10, by sparsity (rebuttal R6).
R6_MEST_EM = {
    0.0: (94.58, 94.99),
    0.2: (94.35, 94.67),
    0.4: (93.92, 94.38),
    0.6: (93.58, 94.11),
    0.8: (93.23, 93.88),
    0.9: (92.56, 93.43),
    0.95: (91.15, 91.58),
    0.98: (89.22, 91.22),
}

#: Dense ResNet-32, CIFAR-10: original, with S2-SAM, with SAM (rebuttal R2).
R2_RESNET32 = (94.58, 94.99, 95.32)

#: LRR, ResNet-32, CIFAR-10, by sparsity (rebuttal R3).
R3_LRR = {0.8: (94.68, 94.87), 0.9: (94.05, 94.39), 0.95: (93.82, 94.22)}

#: LT, ResNet-32, CIFAR-10, by (fraction pruned a round, rounds); rows that the authors name
#: "90 %" though (1 - r)^k leaves 8.6, 11.8 and 13.0 % (rebuttal R4).
R4_LT = {(0.2, 11): (92.31, 92.58), (0.3, 6): (91.71, 92.32), (0.4, 4): (90.73, 91.44)}

#: Transformer on WMT-14 En-De, SacreBLEU: dense, and MEST(EM) by sparsity (rebuttal R5).
R5_TRANSLATION = {0.0: (27.6, 27.9), 0.8: (27.1, 27.5), 0.9: (26.4, 27.2)}

#: Mean gain over all methods of Table 1 at 98 % sparsity, by data set (the paper's text).
MEAN_GAIN_AT_98 = {"cifar10": 0.77, "cifar100": 1.12}

#: Mean gain on ImageNet-C at 80 % sparsity (the paper's text).
MEAN_GAIN_CORRUPTED = 3.23

#: R2's other networks: original, with S2-SAM, with SAM; the first two on CIFAR-10.
R2_OTHERS = {
    "mobilenetv2": (94.13, 94.55, 94.77),
    "vgg19": (94.21, 94.48, 94.71),
    "efficientnet_b0": (76.54, 77.10, 77.38),
    "resnet34": (74.09, 74.58, 74.77),
    "resnet50": (76.90, 77.32, 77.58),
}

#: ImageNet, ResNet-50, 95 %, by method (rebuttal R1).
R1_IMAGENET_95 = {"RigL": (69.02, 69.83), "MEST(EM)": (69.95, 70.81)}

#: ImageNet, ResNet-50, SET with five times the training, by sparsity (rebuttal R7).
R7_SET_5X = {0.8: (74.60, 75.43), 0.9: (72.43, 73.16)}

#: RigL's ResNet-50 by distribution and sparsity: inference and training FLOPs at 1x and 5x relative
#: to dense, and megabytes (google-research/rigl, README; no numbers of the paper).
RIGL_RESNET50 = {
    ("erk", 0.8): (0.42, 0.42, 2.09, 23.683),
    ("uniform-rigl", 0.8): (0.23, 0.23, 1.14, 23.685),
    ("erk", 0.9): (0.24, 0.24, 1.23, 13.499),
    ("uniform-rigl", 0.9): (0.13, 0.13, 0.66, 13.532),
    ("erk", 0.95): (0.12, None, 0.63, 8.399),
    ("uniform-rigl", 0.95): (0.08, None, 0.42, 8.433),
    ("uniform-rigl", 0.965): (0.07, None, 0.34, 6.904),
}
