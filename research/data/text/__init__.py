"""Tokenize text, and pack tokens into rows of equal length.

    byte_text   byte-level tokens
    pack        concatenate documents in rows, with segment ids and positions
    dialogue    prompt templates, with a mark on the responses; pairs of responses

A row is {"tokens", "segments", "positions"}, each i32 [T]. Segment 0 is padding. To add a tokenizer, copy
`byte_text.py`.
"""
