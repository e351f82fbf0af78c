"""Reinforcement learning: environments, policies, acting, and losses for values and policies.

An Environment is two pure functions, `reset` and `step`. `acting` wraps a Step, for `Experiment(transform=)`: it plays
the environments, builds batches from the transitions and takes optimizer steps on them. `stats` holds the states of the
environments.

    environments   environment (the type, time_limit), cartpole, grid_world, dynamic_programming (exact values)
    acting         acting, policies, replay, measure (the Eval of a policy)
    losses         dqn, ppo (advantages, actor_critic)

To add an environment, copy `cartpole.py`; to add a loss, copy `dqn.py`.
"""
