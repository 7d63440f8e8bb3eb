"""Losses and metrics for deepinv's Trainer."""
