"""Reinforcement learning from human feedback: rollouts, scoring, PPO as a source of batches."""
