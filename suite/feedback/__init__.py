"""What a learner sees of samples: labels, their shares, and how labels get lost or wrong."""

from suite.feedback.feedback import Feedback, Labels, Shares, TokenFeedback

__all__ = ["Feedback", "Labels", "Shares", "TokenFeedback"]
