"""Where an experiment runs: each place turns the same command into a Plan, and submits it."""
