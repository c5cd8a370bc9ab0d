"""Reinforcement learning: the model answers, the answers are rewarded, the better ones become more probable."""
