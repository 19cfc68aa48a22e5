"""Joint feature selection for mixed tasks (Cao and Schwarz 2024)."""

from phenomena.chapters.multitask_selection.estimator import MixedMultiTask, MixedMultiTaskCV

__all__ = ["MixedMultiTask", "MixedMultiTaskCV"]
