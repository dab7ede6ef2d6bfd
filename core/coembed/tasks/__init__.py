"""Tasks: what one training step optimises, a contrast between towers or a pretext of one."""

from coembed.tasks.base import Embed, Task
from coembed.tasks.contrast import Contrast
from coembed.tasks.pretext import Pretext
from coembed.training.same import SAME

__all__ = ["SAME", "Contrast", "Embed", "Pretext", "Task"]
