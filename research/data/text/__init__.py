"""Text as tokens, and tokens as rows of one length.

    byte_text   a byte is a token
    pack        documents laid end to end, with segment ids and positions that keep them apart

A row is {"tokens", "segments", "positions"}, each int [T]; segment 0 is padding. To add a tokenizer, copy
`byte_text.py`.
"""
