"""Balance the classes of the training rows. Never resample the rows of a test: its class frequencies are the truth.

    resample    oversample, undersample      indices for `subset`, fixed by the seed of the split
    smote       smote                        synthetic rows of rare classes

Indices and rows are made once, from training rows; batches then stay a pure function of the step, and restarts are
exact. Weights of classes in the loss are `losses.class_balanced`. To add a method, copy `smote.py`.
"""
