"""Records in: anything with `len(data)` and `data[i] -> dict` of numpy arrays, numbers and strings.

    in memory    arrays (also views: subset, mapped, in_memory), records (reading many at once)
    files        images (a folder), tables (CSV, JSON lines), idx, open (by what lies at a path), paths
    prepared     tfds (without TensorFlow), indexed (random access to a former stream), prepare, decoded_cache

Two methods are used if a data set has them, because they are faster: `take(indices)`, or `__getitems__(indices)`. To
add a reader, copy `tables.py`, and name its files in `open.py`.
"""
