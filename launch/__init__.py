"""Run an experiment on another platform: each module turns a train command into a Plan and submits it."""
