"""Parts in sequence against the parts themselves."""

import numpy as np
import pytest

from research.data import arrays, batches
from research.data.sampling.sequence import in_sequence
from research.errors import UserError

A, B, C = (arrays(x=np.arange(n) + 100 * i) for i, n in enumerate((7, 5, 6)))


def test_each_part_begins_at_its_own_start_and_the_last_goes_on():
    parts = [batches(data, 3) for data in (A, B, C)]
    source = in_sequence(parts, steps=(4, 2, 3))
    assert (source.size, source.examples) == (3, 18)
    for step, (part, own) in {0: (0, 0), 3: (0, 3), 4: (1, 0), 5: (1, 1), 6: (2, 0), 60: (2, 54)}.items():
        np.testing.assert_array_equal(source(7)(step)["x"], parts[part](7)(own)["x"])
    np.testing.assert_array_equal(source(7)(5, slice(1, 2))["x"], source(7)(5)["x"][1:2])


@pytest.mark.parametrize("steps, sizes", [((4,), (3, 3)), ((4, 0), (3, 3)), ((4, 4), (3, 2)), ((), ())])
def test_parts_that_make_no_sequence(steps, sizes):
    with pytest.raises(UserError, match="sequence"):
        in_sequence([batches(A, size) for size in sizes], steps=steps)
