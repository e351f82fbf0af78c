import numpy as np
import pytest

from research.data.text.pairs import pair_rows
from research.errors import UserError


def test_rows_have_begin_end_and_padding_and_a_long_source_is_cut_before_its_end():
    options = dict(begin=1, end=2, lengths=(4, 5))
    found = pair_rows([[7, 8], [5, 6, 7, 8, 9], []], [[9], [9, 8, 7], []], **options)
    np.testing.assert_array_equal(found["source"], [[7, 8, 2, 0], [5, 6, 7, 2], [2, 0, 0, 0]])
    np.testing.assert_array_equal(found["target"], [[1, 9, 2, 0, 0], [1, 9, 8, 7, 2], [1, 2, 0, 0, 0]])
    assert found["source"].dtype == np.int32
    assert pair_rows([[7]], [[9]], **options, source_end=5)["source"].tolist() == [[7, 5, 0, 0]]
    with pytest.raises(UserError, match="row 1 has 6 tokens; expected at most 5"):
        pair_rows([[7], [7]], [[9], [9, 8, 7, 6]], **options)
