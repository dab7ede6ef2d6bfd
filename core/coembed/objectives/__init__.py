"""Objectives, and wrappers that go over any of them."""

from coembed.objectives.base import Objective

__all__ = ["Objective"]
