"""Numbers that the paper's authors published as text, from the OpenReview discussion (MJgMMqMDu4).

The cells of Tables 1 to 6 and A.1 are public only as pictures and are therefore not here.
Accuracies in %, or SacreBLEU, as (base, with S2-SAM).
"""

__all__ = ["MEAN_GAIN_AT_98", "R2_RESNET32", "R3_LRR", "R4_LT", "R5_TRANSLATION", "R6_MEST_EM"]

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
