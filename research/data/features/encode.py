"""Categories as numbers. A column of codes 0 to K - 1, and K for any other category, becomes columns of numbers.

Only categories of the training rows count as known. A missing category stays missing. Categories that no step encodes
become the field "codes", for an embedding. Hashing is part of the schema: `Column("category", buckets=256)`.
"""

import difflib
import re
import unicodedata

import numpy as np

from research.data.steps import Feature, Fitted, applied, chosen, labels, namespace, step, take
from research.errors import UserError

MOST = 1000  # columns that one_hot may make of one category


@step
def one_hot(frame, *, columns=None, rare: int = 0) -> Fitted:
    """Make a 0/1 column `NAME=CATEGORY` for each category of the training rows (scikit-learn's OneHotEncoder).

    Categories with fewer than `rare` training rows share the column `NAME=other`. An unknown category is there too, if
    it exists; otherwise all columns of the category are 0. Raises UserError for more than 1,000 categories.
    """
    names = chosen(frame, columns, ("category",))
    features, places, made = dict(frame.features), [], []
    for name in names:
        categories, counts = features.pop(name).categories, _counts(frame, name)
        kept = [i for i in range(len(categories)) if counts[i] >= max(rare, 1)]
        other = any(0 < counts[i] < rare for i in range(len(counts)))
        if len(kept) + other > MOST:
            raise UserError(
                f"one_hot would make {len(kept)} columns of {name!r}; expected at most {MOST}. Use "
                "encode.target_mean(), encode.frequency(), rare=, an embedding, or Column('category', buckets=256) in "
                "the schema."
            )
        table = np.full(len(counts), len(kept) if other else -1)
        table[kept] = np.arange(len(kept))
        places.append(table)
        made.append([f"{name}={categories[i]}" for i in kept] + [f"{name}=other"] * other)
        features |= {one: Feature("flag") for one in made[-1]}
    settings = {"names": names, "made": made}
    return Fitted(indicators, settings, {str(i): table for i, table in enumerate(places)}, features=features)


@applied
def indicators(columns, arrays, *, names, made):
    """Replace each of `names` by the 0/1 columns `made`; the arrays give the place of each code."""
    xp, columns = namespace(columns), dict(columns)
    for i, (name, new) in enumerate(zip(names, made, strict=True)):
        place = take(xp, arrays[str(i)].astype(np.float64), columns.pop(name))
        missing = xp.isnan(place)
        columns |= {one: xp.where(missing, xp.nan, xp.where(place == j, 1.0, 0.0)) for j, one in enumerate(new)}
    return columns


@step
def ordinal(frame, *, columns=None) -> Fitted:
    """Replace each category by its number among those of the training rows, in the order of the schema; unknown is -1.

    OrdinalEncoder of scikit-learn. Strings are in alphabetical order, unless the schema states `categories`.
    """
    return _by_table(frame, columns, lambda counts: np.where(counts > 0, np.cumsum(counts > 0) - 1, -1))


@step
def frequency(frame, *, columns=None) -> Fitted:
    """Replace each category by its share of the training rows; an unknown one by 0."""
    return _by_table(frame, columns, lambda counts: counts / max(counts.sum(), 1))


def _by_table(frame, columns, values):
    names = chosen(frame, columns, ("category",))
    arrays = {str(i): np.asarray(values(_counts(frame, name)), np.float64) for i, name in enumerate(names)}
    features = {**frame.features, **{name: Feature("number") for name in names}}
    return Fitted(looked_up, {"names": names}, arrays, features=features)


@applied
def looked_up(columns, arrays, *, names):
    """Replace the codes of each of `names` by the numbers of its array."""
    xp, columns = namespace(columns), dict(columns)
    for i, name in enumerate(names):
        columns[name] = take(xp, arrays[str(i)], columns[name])
    return columns


@step
def rare(frame, least: int, *, columns=None) -> Fitted:
    """Join categories with fewer than `least` training rows, and unknown ones, to the category "other"."""
    names = chosen(frame, columns, ("category",))
    features, arrays = dict(frame.features), {}
    for i, name in enumerate(names):
        counts, categories = _counts(frame, name), frame.features[name].categories
        kept = [c for c in range(len(categories)) if counts[c] >= least]
        arrays[str(i)] = np.full(len(counts), float(len(kept)))
        arrays[str(i)][kept] = np.arange(len(kept))
        features[name] = Feature("category", (*(categories[c] for c in kept), "other"))
    return Fitted(looked_up, {"names": names}, arrays, features=features)


@step
def spellings(frame, likeness: float = 0.85, *, columns=None) -> Fitted:
    """Join different spellings of a category to the most frequent one.

    Two spellings are one category if they agree without case, accents, punctuation and the order of words (the
    fingerprint of OpenRefine), or if their likeness, from 0 to 1, is at least `likeness` (difflib: Ratcliff & Metzener
    1988). The likeness of numbers counts for nothing: "type 1" and "type 2" stay apart.
    """
    names = chosen(frame, columns, ("category",))
    features, arrays = dict(frame.features), {}
    for i, name in enumerate(names):
        counts, categories = _counts(frame, name), frame.features[name].categories
        leaders: dict[str, int] = {}  # by fingerprint, the most frequent first
        group = np.empty(len(categories), int)
        for code in np.argsort(-counts[:-1], kind="stable"):
            key = _fingerprint(categories[code])
            similar = [k for k in leaders if _digits(k) == _digits(key)]
            match = key if key in leaders else next(iter(difflib.get_close_matches(key, similar, 1, likeness)), None)
            group[code] = leaders.setdefault(key if match is None else match, int(code))
        kept = sorted(set(group))
        arrays[str(i)] = np.array([kept.index(leader) for leader in group] + [len(kept)], np.float64)
        features[name] = Feature("category", tuple(categories[leader] for leader in kept))
    return Fitted(looked_up, {"names": names}, arrays, features=features)


def _fingerprint(text):
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().casefold() or text.casefold()
    return " ".join(sorted(set(re.findall(r"\w+", text)))) or text


def _digits(text):
    return re.findall(r"\d+", text)


@step
def target_mean(frame, *, columns=None, folds: int = 5, smooth: float | str = "auto", seed: int = 0) -> Fitted:
    """Replace each category by the mean target of its training rows, shrunk to the overall mean (TargetEncoder).

    With more than two classes, there is a column `NAME~CLASS` for each. A training row gets the means of the other
    folds, so that its own target does not leak into its features (Micci-Barreca 2001; scikit-learn's cross fitting);
    that needs `prepare(train, training=True)`. An unknown category gets the overall mean.
    """
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.preprocessing import TargetEncoder

    names, target = chosen(frame, columns, ("category",)), labels(frame, what="encode.target_mean()")
    if not names:
        return Fitted(None, {}, {})
    for name in names:
        if np.isnan(frame.columns[name]).any():
            raise UserError(f"the category {name!r} has missing values; put missing.most_frequent() before this step.")
    codes = np.stack([frame.columns[name] for name in names], 1)
    sizes = [len(frame.features[name].categories) + 1 for name in names]
    kind = "continuous" if frame.classes is None else "binary" if frame.classes == 2 else "multiclass"

    def encodings(rows):
        """Return, per column, the means of its codes, [columns made, codes]."""
        encoder = TargetEncoder(categories=[np.arange(size) for size in sizes], target_type=kind, smooth=smooth)
        found = encoder.fit(codes[rows], target[rows]).encodings_
        means = np.atleast_1d(encoder.target_mean_)
        per = len(means)
        tables = []
        for i, size in enumerate(sizes):
            table = np.tile(means[:, None], (1, size))
            for j in range(per):
                seen = np.unique(codes[rows, i]).astype(int)
                table[j, seen] = found[i * per + j][seen]
            tables.append(table)
        return tables

    split = (KFold if frame.classes is None else StratifiedKFold)(folds, shuffle=True, random_state=seed)
    of_row, arrays = np.zeros(len(codes), np.int32), {}
    for number, (train, test) in enumerate(split.split(codes, target)):
        of_row[test] = number
        arrays |= {f"{i} fold {number}": table for i, table in enumerate(encodings(train))}
    arrays |= {str(i): table for i, table in enumerate(encodings(np.arange(len(codes))))} | {"folds": of_row}
    made, features = [], dict(frame.features)
    for i, name in enumerate(names):
        del features[name]
        count = len(arrays[str(i)])
        made.append([name] if count == 1 else [f"{name}~{j}" for j in range(count)])
        features |= {one: Feature("number") for one in made[-1]}
    return Fitted(means, {"names": names, "made": made}, arrays, training=means_of_other_folds, features=features)


@applied
def means(columns, arrays, *, names, made):
    """Replace each of `names` by the columns `made`, from its table of means [made, codes]."""
    xp, columns = namespace(columns), dict(columns)
    for i, (name, new) in enumerate(zip(names, made, strict=True)):
        codes = columns.pop(name)
        columns |= {one: take(xp, table, codes) for one, table in zip(new, arrays[str(i)], strict=True)}
    return columns


@applied
def means_of_other_folds(columns, arrays, *, names, made):
    """As `means`, but from the table of the fold of the row, in which its own target has no part.

    `folds` [n] are of the rows that earlier steps left.
    """
    columns, folds = dict(columns), arrays["folds"]
    for i, (name, new) in enumerate(zip(names, made, strict=True)):
        codes = columns.pop(name).astype(int)
        tables = np.stack([arrays[f"{i} fold {k}"] for k in range(int(folds.max()) + 1)])
        columns |= {one: tables[folds, j, codes] for j, one in enumerate(new)}
    return columns


def _counts(frame, name):
    """Return the number of training rows of each code, [categories + 1]."""
    codes = frame.columns[name]
    return np.bincount(codes[~np.isnan(codes)].astype(int), minlength=len(frame.features[name].categories) + 1)
