"""Architectures, one family per file, as `flax.nnx` modules; `research.model.from_nnx` turns a module into a Model.

A module's constructor accepts its sizes and `rngs=`. Call it as `module(x, *, train, rngs)`. The signature of
`__call__` states the shapes; the class docstring states the number of parameters and the paper. To change a Model from
outside (preprocessing, freezing, 16 bits), use `research.wrappers`.

    vectors    mlp, heads (several outputs)
    images     cnn, fashion_cnn, patch_cnn, strided_cnn, resnet, vit, mae (masked autoencoder)
    bags       bags (multiple instances)
    words      sparse (TF-IDF, fastText), word_vectors
    tokens     gpt, llama (also Mistral, Qwen), bert (also RoBERTa, DistilBERT, ALBERT), lstm, elmo
    texts      rnn (classes and tags), text_cnn, hierarchical_attention
    pairs      t5, seq2seq (recurrent encoder-decoders, with attention and without)
    sentences  tagger (LSTM over words and characters, with a CRF), parser (biaffine), spanning_tree (the best tree)
    baseline   a fitted classifier of scikit-learn as a Model; bigram (a Markov chain, for masked tokens)

To add a model, copy `mlp.py`; for a model with options, copy `vit.py`.
"""
