"""Review of labels: find those that are probably wrong, let a person decide, and correct them.

    review("runs/digits-1a2b3c4d-s0")                       writes labels/train/review.html and proposals.csv
    apply("runs/digits-1a2b3c4d-s0/labels/train/proposals.csv")      writes corrections.jsonl beside it
    data = corrected(digits(), "corrections.jsonl")         in an experiment; see `research.data.labels.corrections`

Confident learning (Northcutt, Jiang & Chuang 2021) needs predictions for records that the network was not trained on.
"""

import datetime
import getpass
import sys
from pathlib import Path

import numpy as np

from research.data.fingerprint import fingerprint
from research.data.labels.corrections import (
    LABEL,
    Correction,
    append_corrections,
    base_rows,
    corrected,
    read_corrections,
)
from research.data.labels.guide import read_guide
from research.data.labels.proposals import ACCEPT, Proposal, decided_class, read_proposals, write_proposals
from research.data.readers import paths
from research.data.readers.arrays import class_names, column
from research.data.readers.indexed import write
from research.data.readers.records import records
from research.diagnose.suspects import confident_learning
from research.errors import UserError
from research.files import atomic_write, file_errors, read_json, write_json
from research.report.confusion import row_names
from research.report.label_review import Review, review_page
from research.runs.opened import check_present, load_run, open_run, print_changed_data
from research.studies.out_of_sample import TRAIN, predicted

TABLE, ABOUT, PAGE, FILE = "proposals.csv", "review.json", "review.html", "corrections.jsonl"
ENTRIES = {"run": str, "on": str, "data": dict, "classes": list, "corrections": str}  # of review.json


def review(
    run, *, on: str | None = None, folds: int = 4, guide=None, shown: int = 100, trust: bool = False, stream=None
) -> list[Proposal]:  # fmt: skip
    """Find the labels of a run's data that are probably wrong; write a page and a table of proposals.

    run: `RUN`, `RUN@step` or `RUN@best`; its stored source is executed, which needs `trust` for a run of another user
    on: "train", or the name of an evaluation. By default "train"; for a run of a cross-validation, the last evaluation
    folds: for "train", the number of networks, each trained by the run's source without the records that it predicts;
      0 uses the run's own network, which was trained on them
    guide: a TOML file (see `research.data.labels.guide`), shown on the page
    shown: the number of proposals on the page; the table has all

    An evaluation is predicted by the run's own network. If the run has a knob `fold`, the other folds beside it, of the
    same experiment, knobs and seed, predict their records too.

    Returns the proposals, the most suspicious first: labels that are wrong by confident learning, then other labels
    that are not the most probable class. Writes `labels/<on>/review.html`, `proposals.csv` and `review.json` in the
    run folder; decisions that the table already has are kept. Raises UserError for an unknown evaluation, for data
    without class labels, and for an experiment without `predict=` that returns probabilities.
    """
    stream = stream or sys.stdout
    opened = open_run(run, trust=trust)
    check_present(opened)
    print_changed_data(opened, stream)
    ex = opened.experiment
    on = on or (list(ex.evals)[-1] if "fold" in opened.about["knobs"] and ex.evals else TRAIN)
    folder = opened.folder / "labels" / on
    with file_errors(folder):
        found = predicted(opened, on, folds=folds, folder=folder, trust=trust, stream=stream)
        base, rows, corrections = base_rows(found.data)
        labels = np.asarray(column(found.data, LABEL))
        known = np.flatnonzero(labels >= 0)
        rows, labels, p, seen = rows[known], labels[known], found.probabilities[known], found.seen[known]
        if not len(labels) or labels.max() >= p.shape[1]:
            largest = f"the label {labels.max()}" if len(labels) else "no labels"
            raise UserError(f"{on} has {largest}; expected class numbers from 0 to {p.shape[1] - 1}.")
        classes = row_names(p.shape[1], class_names(found.data))
        rules = read_guide(guide, classes=classes, records=len(base)) if guide else None
        about = {"run": str(opened.folder), "on": on, "data": fingerprint(base), "classes": classes,
                 "corrections": str(corrections or "")}  # fmt: skip
        if (folder / TABLE).exists() and _about_review(folder / TABLE)["data"] != about["data"]:
            raise UserError(f"{folder / TABLE} has proposals for other data, perhaps with decisions; move the folder.")
        suspects, likely = confident_learning(labels, p), p.argmax(1)
        # Further down, where the network contradicts a label less confidently than it predicts that class on average.
        rest = np.setdiff1d(np.flatnonzero(likely != labels), suspects.rows)
        rest = rest[np.argsort(p[rest, labels[rest]] - p[rest, likely[rest]], kind="stable")]
        pairs = zip([*suspects.rows, *rest], [*suspects.proposed, *likely[rest]], strict=True)
        proposals = [Proposal(int(rows[i]), classes[labels[i]], classes[j], float(p[i, j])) for i, j in pairs]
        proposals = write_proposals(folder / TABLE, proposals)
        write_json(folder / ABOUT, about)
        numbers = [proposal.record for proposal in proposals[:shown]]
        for entry in rules.classes.values() if rules else ():
            numbers += [example for example in entry.examples if isinstance(example, int)]
        page = review_page(
            f"Labels of {opened.about['experiment']}, {on}",
            Review(
                proposals=proposals,
                suspects=set(rows[suspects.rows].tolist()),
                joint=suspects.joint,
                classes=classes,
                count=len(labels),
                origin=found.origin,
                seen=set(rows[seen].tolist()),
            ),  # fmt: skip
            most=shown,
            records=dict(zip(numbers, records(base, numbers), strict=True)),
            commands=(
                f"In `{folder / TABLE}`, write `accept`, `reject` or the name of a class into the column decision.",
                f"Record the decisions: `python -m research labels apply {folder / TABLE} --annotator NAME`",
                f'Then, before the data are split: `data = corrected(data, "{corrections or folder / FILE}")`',
            ),
            guide=rules,
            names=ex.preparation.names if ex.preparation else (),
            decode=getattr(base, "decode", None),
        )
        with atomic_write(folder / PAGE) as part:
            part.write_bytes(page.encode("utf-8", "replace"))
    kind = f"the network was trained on {seen.sum():,} of them" if seen.any() else "out of sample"
    print(f"{len(suspects.rows)} labels are probably wrong, of {len(labels):,} records of {on} ({kind}); "
          f"{len(proposals)} proposals", file=stream)  # fmt: skip
    print(f"page: {folder / PAGE}", file=stream)
    print(f"decide in {folder / TABLE}, then: python -m research labels apply {folder / TABLE}", file=stream)
    return proposals


def apply(
    proposals, *, annotator: str | None = None, accept: int = 0, file=None, out=None, trust: bool = False, stream=None
) -> Path:
    """Add the decisions of a table of proposals to the record of corrections, and return its path.

    proposals: the path of proposals.csv, beside the review.json of its review
    annotator: who decided (default: the name of the user)
    accept: of the proposals without a decision, accept so many, from the top, without inspection; the record says so
    file: the record (default: that of the reviewed data if they are corrected already, otherwise beside the proposals)
    out: also write the complete corrected set to this folder, for `research.data.indexed`; this executes the source of
      the run, which needs `trust` if this user did not make it

    The data and the earlier lines of the record stay as they are, and decisions that it has already are not repeated.
    A decision that was applied and then changed in the table is a further change. Raises UserError for a decision that
    is neither accept, reject nor a class, and if the label was changed since the review.
    """
    stream, path = stream or sys.stdout, paths.file(proposals, what="table of proposals")
    about = _about_review(path)
    if not file and about["corrections"] and not Path(about["corrections"]).exists():
        # A folder from elsewhere must not choose where a new file is written.
        raise UserError(
            f"there is no record {about['corrections']} of earlier corrections; give its place, --file FILE."
        )
    file, classes = Path(file or about["corrections"] or path.with_name(FILE)), about["classes"]
    annotator, added, changes = annotator or getpass.getuser(), 0, []
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found, applied = read_proposals(path), read_corrections(file).current() if file.exists() else {}
    for proposal in found:
        if not proposal.decision and added < accept:
            added += 1
            reason = proposal.reason or f"one of the first {accept} proposals, accepted without inspection"
            proposal = proposal._replace(decision=ACCEPT, reason=reason)
        new, last = decided_class(proposal, classes), applied.get(proposal.record)
        if new is None:
            continue
        if last and proposal.given not in last[1:3]:
            raise UserError(
                f"record {proposal.record} was reviewed as {proposal.given!r}, but {last.annotator} changed it from "
                f"{last.old!r} to {last.new!r} at {last.time}. Review the corrected data again."
            )
        current = last.new if last else proposal.given
        if new != current:
            changes.append(Correction(proposal.record, current, new, annotator, time, proposal.reason))
    with file_errors(file):
        append_corrections(file, changes, data=about["data"], classes=classes)
    undecided = sum(not p.decision for p in found) - added
    print(f"{len(changes)} labels changed by {annotator}: {file}\n{undecided} proposals are undecided.", file=stream)
    if out:
        ex = load_run(about["run"], trust=trust).experiment
        one = ex.source if about["on"] == TRAIN else ex.evals[about["on"]].source
        data = corrected(base_rows(one.data)[0], file)
        write(_each(data), out, classes=class_names(data))
        print(f"{len(data)} records with corrected labels: {out}", file=stream)
    return file


def _about_review(path) -> dict:
    about = path.with_name(ABOUT)
    if not about.exists():
        raise UserError(f"{path} has no {ABOUT} beside it; expected the folder that `labels review` wrote.")
    found = read_json(about)
    found = found if isinstance(found, dict) else {}
    if wrong := sorted(key for key, kind in ENTRIES.items() if not isinstance(found.get(key), kind)):
        raise UserError(f"{about} is damaged; expected an object with {', '.join(wrong)}.")
    return {**found, "classes": list(map(str, found["classes"]))}


def _each(data):
    for start in range(0, len(data), 1024):
        yield from records(data, range(start, min(start + 1024, len(data))))
