"""Reinforcement learning: environments, policies, acting, and the losses of values and policies.

An Environment is two pure functions, `reset` and `step`. `acting` is a Step -> Step, for `Experiment(transform=)`: it
plays, makes batches of what happened and takes optimizer steps on them. The environments' states live in `stats`.

    environments   environment (the type, time_limit), cartpole, grid_world, dynamic_programming (exact values)
    acting         acting, policies, replay, measure (the Eval of a policy)
    losses         dqn, ppo (advantages, actor_critic)

To add an environment, copy `cartpole.py`; to add a loss, `dqn.py`.
"""
