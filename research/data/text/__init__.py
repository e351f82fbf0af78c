"""Texts become numbers: cleaning, words, tokenizers, and preparations that are fitted on training rows.

    preparation      fit_text(train, encoding) -> TextPreparation, saved with the run; encodings are
      bag            sparse weights of words and n-grams: counts, TF-IDF, means with hashed n-grams (fastText)
      tokens         rows of token ids of one length
    clean, words     Unicode forms, markup, control characters; segmentation, stop words, stems
    tokenizer        read a tokenizer from the files of a checkpoint; train_tokenizer trains one
    windows          words with their contexts, and counts of pairs, for word vectors; vectors reads public files
    byte_text        byte-level tokens, the default
    pack             concatenate documents in rows, with segment ids and positions
    dialogue         prompt templates, with a mark on the responses; pairs of responses
    tagged           words and their characters as numbers, with a tag for every word
    pairs            sources and targets as rows; nearest: the most similar training text
    characters       text without spaces as tags of its characters; maximum matching
    search           BM25, and training pairs for a retriever

A row of tokens is {"tokens", "segments", "positions"}, each i32 [T]. Segment 0 is padding. A sparse record is {"ids",
"values"}. The extras are `text` (tokenizers, sentencepiece, jieba, snowballstemmer) and `spacy`. To add an encoding,
copy `tokens.py`.
"""
