"""The 19 corruptions of Hendrycks and Dietterich (2019), each at 5 severities.

    corrupt("fog", 3, images)            # uint8 [N, S, S, C], one severity
    corrupted("fog", images, 0, folder)  # all five, kept in a folder

``constants`` holds how strong they are at 32 and at 64 pixels, ``functions`` what they do,
``generate`` makes and keeps them, and ``published`` reads the files that their authors published.
"""

from paper_repro.data.corrupted.constants import GROUPS, SEVERITIES, TYPES, strengths

__all__ = ["GROUPS", "SEVERITIES", "TYPES", "strengths"]
