"""The two training stages: few-step initialisation with DMD, and adversarial post-training."""
