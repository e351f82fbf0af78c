"""Read records. A data set has `len(data)` and `data[i] -> dict` of numpy arrays, numbers and strings.

    in memory    arrays (also views: subset, mapped, in_memory), records (bulk reads, columns)
    files        images (class folders), tables (CSV, JSON lines), idx, open (detects the format), paths
    prepared     tfds (without TensorFlow), indexed (random access to a converted stream), prepare, decoded_cache

Optional methods make bulk reads faster: `take_columns(indices)` or `__getitems__(indices)`. To add a reader, copy
`tables.py` and register its file suffix in `open.py`.
"""
