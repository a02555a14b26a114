"""How good a model is: judges, win rates with intervals, text metrics, calibration, baselines."""
