"""A table with every kind of column, and one trap in each."""

import numpy as np

N = 240


def people(**changes) -> dict[str, list]:
    """Columns of N rows; `changes` replaces some of them, and None removes one."""
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, N).astype(float)
    height = rng.normal(170, 10, N)
    income = ["high" if x > 62 else "low" for x in age + rng.normal(0, 8, N)]
    made = {
        "age": [None if i % 9 == 0 else x for i, x in enumerate(age)],
        "height": height.tolist(),
        "inches": (height / 2.54).tolist(),
        "fare": [float("inf") if i == 7 else x for i, x in enumerate(np.exp(rng.normal(2, 1.5, N)))],
        "speed": [float(x) if i % 60 else 900.0 for i, x in enumerate(rng.normal(50, 5, N))],
        "city": [["Rome", "Oslo", "Lima", None][i % 4] for i in rng.integers(0, 4, N)],
        "zip": [f"z{i % 70}" for i in rng.permutation(N)],
        "joined": [f"20{10 + i % 12}-0{1 + i % 9}-1{i % 9}" for i in range(N)],
        "note": [f"word{i} and more words {i % 7}" for i in range(N)],
        "key": [f"k{i}" for i in range(N)],
        "bonus": [float(i % 7 + 50 * (x == "high")) for i, x in enumerate(income)],
        "same": [1] * N,
        "nothing": [None] * N,
        "income": income,
        **changes,
    }
    return {name: values for name, values in made.items() if values is not None}
