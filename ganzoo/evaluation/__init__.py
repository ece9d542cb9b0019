"""Evaluation of generators."""

from ganzoo.evaluation.evaluator import Evaluator, evaluate, evaluate_sources

__all__ = ["Evaluator", "evaluate", "evaluate_sources"]
