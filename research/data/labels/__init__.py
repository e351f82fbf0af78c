"""Where labels come from: several raters, rules, the choice of the next records to label, and corrections.

Functions of numpy arrays on the host. Votes are int [raters, rows], with -1 where a rater gave no label.

    crowd     majority_vote, dawid_skene        from several raters to probabilities of the true classes
    rules     apply_rules, rule_table           functions of a record that vote or abstain
    spectral  spectral_labels                   few labels, spread over clusters
    choose    uncertainty, margin, entropy, vote_entropy, information, core_set      for active learning
    proposals, corrections, guide    a review: a table to decide in, the record of changes, the rules of the classes

`research.metrics.agreement` measures how far raters agree. `research.studies.active_learning` is the loop that labels,
trains and chooses again, and `research.studies.label_review` is the review. To add a rule of choice, copy one in
`choose.py`.
"""
