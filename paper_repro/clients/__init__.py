"""Callbacks for other people's training loops; each needs the library that it is for.

    from paper_repro.clients.lightning import AtWeights       # Lightning's Trainer
    from paper_repro.clients.transformers import AtWeights    # transformers' Trainer

Nothing else is needed of either: a sparse method's masks travel in its optimizer's state.
"""
