"""Feedback on samples: labels, their shares, and label noise."""

from suite.feedback.feedback import Feedback, Labels, Shares, TokenFeedback

__all__ = ["Feedback", "Labels", "Shares", "TokenFeedback"]
