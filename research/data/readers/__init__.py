"""Read records. A data set has `len(data)` and `data[i] -> dict` of numpy arrays, numbers and strings.

    in memory    arrays (also views: subset, mapped, in_memory), records (bulk reads, columns)
    files        images (class folders), table (with cells and table_files), jsonl, idx, open (any format), paths
    large files  blocks (tables and JSON lines, some rows at a time)
    prepared     tfds (without TensorFlow), indexed (random access to a converted stream), prepare, decoded_cache

Optional methods make bulk reads faster: `take_columns(indices)` or `__getitems__(indices)`. To add a reader, copy
`jsonl.py` and register its file suffix in `open.py`.
"""
