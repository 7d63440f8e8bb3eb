"""Datasets that need no download."""

from .photos import Photos as Photos
