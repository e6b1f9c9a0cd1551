"""Truly sparse training on CPUs: the zeros are skipped, in time and in memory."""
