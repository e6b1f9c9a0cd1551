"""Statistics of small effects: how records that arrive in looks are turned into verdicts.

From the ground up: ``looks`` spends the error rate, ``estimate`` estimates, ``rules`` decides and
says what power there was, ``reading`` brings records into shape, and ``study`` tries the rules on
simulated records whose truth is known. Estimates and rules work on whole arrays of experiments
at once, so that the study runs the very code that judges the records.
"""
