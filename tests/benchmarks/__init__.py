"""Ours beside deepinv and torchdeq, on one problem in one run."""
