"""What is claimed, by which records, and what these say of it.

:mod:`tables.verdicts.parts` lists the claims that runs decide, :mod:`tables.verdicts.measured` asks
the benchmarks and the theory, and :mod:`tables.verdicts.worth` says which runs would decide most.
The statistics are :mod:`tables.inference`'s.
"""
