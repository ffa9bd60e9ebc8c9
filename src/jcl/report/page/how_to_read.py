"""How the tables of a report are to be read, for all formats."""

from jcl.report.stats.comparisons import FEWEST_PAIRS

__all__ = ["HOW_TO_READ"]

HOW_TO_READ = (
    "A score is the mean over the folds of the mean over a fold's test cases of the mean over the foreground classes "
    "that are counted in a case; several seeds are averaged within their fold. The standard deviation is that of the "
    "folds' means (n − 1). Dice and Jaccard are of a whole case (a volume, or a slice where slices are scored), HD95 "
    "and ASD in millimetres; a class that is in neither truth nor prediction is not counted, and one that is missed or "
    "invented has Dice 0 and, as its distance, the diagonal of the scan.",
    "Bold is the best of a column, among the rows with the most runs. A letter after a score leads to the note below "
    "the table that says what the cell lacks: a mean of fewer folds does not compare with one of all.",
    "The rank of a row among the rows with scores (1 is best) is averaged over the pairs of column and fold of which "
    "all of them have scores.",
    "Intervals are 95 % bootstrap intervals of the mean over all test cases together. Drawn anew is what there are "
    "several of: folds, in each its patients with all their cases, and seeds, which are trainings of their own (the "
    "recipe says whether pre-trainings, too). Of two or three folds or seeds an interval is a rough one.",
    "Differences are row minus reference, the median over the n patients of whom both have scores (seeds and cases of "
    "a patient are paired each with its like, and averaged); below it stands the mean over their cases, with its "
    "interval, drawn likewise. p is of Wilcoxon's signed-rank test, two-sided, with "
    "Holm's correction over all comparisons of a column and metric, against all references together; there is no test "
    f"of fewer than {FEWEST_PAIRS} patients. Last stands in how many folds the row's mean is the better one.",
    "What such a p can say is limited: the patients of a fold are segmented by the same network, from the same few "
    "labelled patients, so they are not independent of each other. A small p says that these networks differ on "
    "patients like these; not that another draw of labelled patients, or another pre-training, would give the same. "
    "The folds say more of that, as does the interval, which draws folds and seeds besides; a test over five folds "
    "could not go below p = 0.06.",
)
"""Paragraphs without markup."""
