"""How good a generator is."""

from ganzoo.evaluation.evaluator import Evaluator, evaluate, evaluate_sources

__all__ = ["Evaluator", "evaluate", "evaluate_sources"]
