"""Learning from preferences: rankings, a reward model fitted to them, RL against it, and when to stop that."""
