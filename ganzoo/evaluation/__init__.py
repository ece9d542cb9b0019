"""Evaluation of generators."""

from ganzoo.evaluation.evaluator import Evaluator
from ganzoo.evaluation.measure import evaluate, evaluate_sources

__all__ = ["Evaluator", "evaluate", "evaluate_sources"]
